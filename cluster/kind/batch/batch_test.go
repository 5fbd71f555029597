package batch_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/kindtest"
)

const meta = "metadata: {name: pi, namespace: a, uid: u-1}\n"

// job is a Job with more in its spec.
func job(more string) string { return meta + "spec: {" + inside(more, "Never") + "}" }

func inside(more, restart string) string {
	if more != "" {
		more += ", "
	}
	return more + `template: {spec: {restartPolicy: ` + restart + `, containers: [{name: main, image: "a:1"}]}}`
}

func TestJobRules(t *testing.T) {
	k := batch.Job()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a template is enough", New: job("")},
		{Rule: "pods of a job end", New: meta + "spec: {template: {spec: {containers: [{name: a, image: a}]}}}", Want: []string{
			`spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`}},
		{Rule: "there are no negative counts", New: job("parallelism: -1, completions: -1, backoffLimit: -1, activeDeadlineSeconds: -1, ttlSecondsAfterFinished: -1"), Want: []string{
			"spec.parallelism: Invalid value: -1: must be greater than or equal to 0", "spec.completions: Invalid value: -1: must be greater than or equal to 0",
			"spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0", "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
			"spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0"}},
		{Rule: "an indexed job has an end", New: job("completionMode: Indexed, parallelism: 1"), Want: []string{
			"spec.completions: Required value: when completion mode is Indexed"}},
		{Rule: "an index makes a host name", New: strings.Replace(job("completionMode: Indexed, completions: 11"), "name: pi", "name: "+strings.Repeat("x", 61), 1), Want: []string{
			`metadata.name: Invalid value: "` + strings.Repeat("x", 61) + `": will not able to create pod with invalid DNS label: ` + strings.Repeat("x", 61) + "-10"}},
		{Rule: "a limit by index needs indexes", New: job("backoffLimitPerIndex: 1, maxFailedIndexes: 1"), Want: []string{
			"spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode", "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode"}},
		{Rule: "failed indexes are counted by index", New: job("completionMode: Indexed, completions: 2, maxFailedIndexes: 3"), Want: []string{
			"spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified", "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions"}},
		{Rule: "long jobs keep their lists short", New: job("completionMode: Indexed, completions: 100001, parallelism: 10001, backoffLimitPerIndex: 1"), Want: []string{
			"spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
			"spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index"}},
		{Rule: "who manages a job has a domain", New: job("managedBy: me"), Want: []string{
			`spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")`}},
		{Rule: "the user's labels do not contradict", New: meta + `spec: {template: {metadata: {labels: {job-name: other}}, spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u-1","batch.kubernetes.io/job-name":"pi","controller-uid":"u-1","job-name":"other"}: must be 'pi'`}},
		{Rule: "a selector of one's own is not checked against what would be generated", New: meta +
			`spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}`},
		{Rule: "completions stay", Old: job("completions: 2"), New: changed(job("completions: 3")), Want: []string{"spec.completions: Invalid value: 3: field is immutable"}},
		{Rule: "an indexed job as wide as long may grow", Old: job("completionMode: Indexed, completions: 2, parallelism: 2"), New: changed(job("completionMode: Indexed, completions: 3, parallelism: 3"))},
		{Rule: "and not in length alone", Old: job("completionMode: Indexed, completions: 2, parallelism: 2"), New: changed(job("completionMode: Indexed, completions: 3, parallelism: 2")), Want: []string{
			"spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"}},
		{Rule: "a suspended job that has not started may move", Old: job("suspend: true"),
			New: strings.Replace(changed(job("suspend: true")), "restartPolicy", "nodeSelector: {disk: ssd}, restartPolicy", 1)},
	})
}

// changed is what a user sends who has read the job: with what was generated.
func changed(text string) string {
	text = strings.Replace(text, "template: {", "template: {metadata: {labels: {job-name: pi, controller-uid: u-1, batch.kubernetes.io/job-name: pi, batch.kubernetes.io/controller-uid: u-1}}, ", 1)
	return strings.Replace(text, "spec: {", "spec: {selector: {matchLabels: {batch.kubernetes.io/controller-uid: u-1}}, ", 1)
}

func TestAJobThatRunsKeepsItsTemplate(t *testing.T) {
	k := batch.Job()
	old := kindtest.Create(t, k, job(""))
	now := kindtest.Update(t, k, strings.Replace(changed(job("")), "a:1", "a:2", 1), old)
	errs := k.Validate(now, old)
	if len(errs) != 1 || errs[0].Field != "spec.template" || errs[0].Detail != "field is immutable" {
		t.Errorf("got %v", errs)
	}
}

func TestPolicyRules(t *testing.T) {
	failure := func(rule string) string { return job("podFailurePolicy: {rules: [{" + rule + "}]}") }
	success := func(rule string) string {
		return job("completionMode: Indexed, completions: 5, successPolicy: {rules: [{" + rule + "}]}")
	}
	const at = "spec.podFailurePolicy.rules[0]"
	const ok = "spec.successPolicy.rules[0]"
	kindtest.Check(t, batch.Job(), []kindtest.Rule{
		{Rule: "an exit code", New: failure("action: FailJob, onExitCodes: {containerName: main, operator: In, values: [1, 2]}")},
		{Rule: "a condition is True unless said", New: failure("action: Ignore, onPodConditions: [{type: DisruptionTarget}]")},
		{Rule: "an action is needed", New: failure("onPodConditions: [{type: X}]"), Want: []string{
			at + `.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`}},
		{Rule: "an index fails where indexes can", New: failure("action: FailIndex, onPodConditions: [{type: X}]"), Want: []string{
			at + `.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set`}},
		{Rule: "something is looked at", New: failure("action: Count"), Want: []string{at + `: Invalid value: specifying one of OnExitCodes and OnPodConditions is required`}},
		{Rule: "and not both", New: failure("action: Count, onPodConditions: [{type: X}], onExitCodes: {operator: In, values: [1]}"), Want: []string{
			at + `: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported`}},
		{Rule: "codes are failures, once, in order, of a container there is", New: failure("action: Count, onExitCodes: {containerName: other, operator: In, values: [2, 0, 2]}"), Want: []string{
			at + `.onExitCodes.containerName: Invalid value: "other": must be one of the container or initContainer names in the pod template`,
			at + `.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator`,
			at + `.onExitCodes.values[2]: Duplicate value: 2`, at + `.onExitCodes.values: Invalid value: [2,0,2]: must be ordered`}},
		{Rule: "pods that are judged do not restart", New: strings.Replace(failure("action: Count, onPodConditions: [{type: X}]"), "Never", "OnFailure", 1), Want: []string{
			`spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified`}},
		{Rule: "and are replaced when they have ended", New: strings.Replace(failure("action: Count, onPodConditions: [{type: X}]"), "spec: {", "spec: {podReplacementPolicy: TerminatingOrFailed, ", 1), Want: []string{
			`spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"`}},
		{Rule: "success by indexes", New: success(`succeededIndexes: "0,2-4", succeededCount: 3`)},
		{Rule: "success by something", New: success(``), Want: []string{ok + ": Required value: at least one of succeededCount or succeededIndexes must be specified"}},
		{Rule: "success needs indexes", New: job("successPolicy: {rules: []}"), Want: []string{`spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode`}},
		{Rule: "no more than there are", New: success(`succeededIndexes: "0,2", succeededCount: 6`), Want: []string{
			ok + ".succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
			ok + ".succeededCount: Invalid value: 6: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"}},
		{Rule: "indexes are in order", New: success(`succeededIndexes: "3,1"`), Want: []string{
			ok + `.succeededIndexes: Invalid value: "3,1": error parsing succeededIndexes: non-increasing order, previous: 3, current: 1`}},
		{Rule: "indexes are below the number of completions", New: success(`succeededIndexes: "3-5"`), Want: []string{
			ok + `.succeededIndexes: Invalid value: "3-5": error parsing succeededIndexes: too large index: "5"`}},
		{Rule: "a range has two ends", New: success(`succeededIndexes: "1-2-3"`), Want: []string{
			ok + `.succeededIndexes: Invalid value: "1-2-3": error parsing succeededIndexes: the fragment "1-2-3" violates the requirement that an index interval can have at most two parts separated by '-'`}},
	})
}

func TestJobDefaults(t *testing.T) {
	k := batch.Job()
	j := kindtest.Create(t, k, job("")).(*batchv1.Job)
	s := j.Spec
	if *s.Completions != 1 || *s.Parallelism != 1 || *s.BackoffLimit != 6 || *s.CompletionMode != "NonIndexed" || *s.Suspend || *s.PodReplacementPolicy != "TerminatingOrFailed" || *s.ManualSelector {
		t.Errorf("defaulted to %+v", s)
	}
	if j.Labels["job-name"] != "pi" || s.Selector.MatchLabels["batch.kubernetes.io/controller-uid"] != "u-1" {
		t.Errorf("labels %v, selector %v", j.Labels, s.Selector)
	}
	queue := kindtest.Create(t, k, job("parallelism: 3")).(*batchv1.Job)
	if queue.Spec.Completions != nil || *queue.Spec.Parallelism != 3 {
		t.Error("a work queue has no number of completions")
	}
	byIndex := kindtest.Create(t, k, job("backoffLimitPerIndex: 1, completionMode: Indexed, completions: 2")).(*batchv1.Job)
	if *byIndex.Spec.BackoffLimit != 1<<31-1 {
		t.Errorf("backoffLimit %d", *byIndex.Spec.BackoffLimit)
	}
	judged := kindtest.Create(t, k, job("podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: X}]}]}")).(*batchv1.Job)
	if *judged.Spec.PodReplacementPolicy != "Failed" || judged.Spec.PodFailurePolicy.Rules[0].OnPodConditions[0].Status != "True" {
		t.Errorf("defaulted to %+v", judged.Spec)
	}
}

func TestJobStatusRules(t *testing.T) {
	k := batch.Job()
	check := func(it, spec, was, now string, want ...string) {
		t.Helper()
		t.Run(it, func(t *testing.T) {
			old := kindtest.Read(t, k, job(spec)+"\nstatus: "+was)
			k.Default(old)
			obj := kindtest.Read(t, k, job(spec)+"\nstatus: "+now)
			k.Default(obj)
			kindtest.Compare(t, k.Parts["status"].Validate(obj, old), want...)
		})
	}
	const start = `startTime: "2026-11-21T11:00:00Z"`
	const met = `{type: SuccessCriteriaMet, status: "True"}`
	check("progress", "", "{active: 1}", "{active: 1, ready: 1, "+start+"}")
	check("the end is announced", "", "{"+start+"}", "{"+start+`, completionTime: "2026-11-21T11:01:00Z", conditions: [{type: Complete, status: "True"}]}`,
		"status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	check("a good end", "", "{"+start+"}", "{"+start+`, completionTime: "2026-11-21T11:01:00Z", conditions: [`+met+`, {type: Complete, status: "True"}]}`)
	check("a good end has a time", "", "{"+start+"}", "{"+start+`, conditions: [`+met+`, {type: Complete, status: "True"}]}`,
		"status.completionTime: Required value: completionTime is required for Complete jobs")
	check("a job that failed has no pods left", "", "{"+start+"}", "{"+start+`, active: 1, conditions: [{type: FailureTarget, status: "True"}, {type: Failed, status: "True"}]}`,
		"status.active: Invalid value: 1: active>0 is invalid for finished job")
	check("the end stays", "", `{`+start+`, conditions: [{type: FailureTarget, status: "True"}, {type: Failed, status: "True"}]}`, "{"+start+"}",
		"status.conditions: Invalid value: cannot disable the terminal Failed=True condition", "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition")
	check("counts grow", "", "{failed: 2, succeeded: 2}", "{failed: 1, succeeded: 1}",
		"status.failed: Invalid value: 1: cannot decrease the failed counter", "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter")
	check("indexes are either", "completionMode: Indexed, completions: 5, backoffLimitPerIndex: 1", "{}", `{completedIndexes: "0-2", failedIndexes: "2,3"}`,
		`status.failedIndexes: Invalid value: "2,3": failedIndexes and completedIndexes overlap at index: 2`)
	check("what was wrong before is not said again", "", `{completedIndexes: "x"}`, `{completedIndexes: "x", active: 1}`)
	check("nobody is counted twice", "", "{}", `{uncountedTerminatedPods: {succeeded: [a], failed: [a, ""]}}`,
		`status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"`, `status.uncountedTerminatedPods.failed[1]: Invalid value: "": must not be empty`)
}

// A status that came over the wire has the same times in another location.
func TestTheSameTimeIsNoChange(t *testing.T) {
	k := batch.Job()
	old := kindtest.Read(t, k, job("")).(*batchv1.Job)
	k.Default(old)
	start := metav1.NewTime(kindtest.Now)
	old.Status.StartTime = &start
	now := old.DeepCopy()
	now.Status.StartTime = new(metav1.NewTime(kindtest.Now.In(time.FixedZone("x", 3600))))
	kindtest.Compare(t, k.Parts["status"].Validate(now, old))
}

func TestJobRows(t *testing.T) {
	k := batch.Job()
	head := "Name Status Completions Duration Age Containers+ Images+ Selector+"
	if got := strings.Join(kindtest.Header(k), " "); got != head {
		t.Errorf("header %s", got)
	}
	const meta = "metadata: {name: pi, creationTimestamp: \"2026-11-21T11:00:00Z\"}\n"
	for _, c := range []struct {
		spec, status string
		want         []any
	}{
		{"completions: 3", `{succeeded: 1, startTime: "2026-11-21T11:58:00Z"}`, []any{"pi", "Running", "1/3", "2m", "60m"}},
		{"parallelism: 2", `{}`, []any{"pi", "Running", "0/1 of 2", "", "60m"}},
		{"parallelism: 1", `{startTime: "2026-11-21T11:58:00Z", completionTime: "2026-11-21T11:58:10Z", conditions: [{type: Complete, status: "True"}]}`,
			[]any{"pi", "Complete", "0/1", "10s", "60m"}},
		{"", `{conditions: [{type: Suspended, status: "True"}]}`, []any{"pi", "Suspended", "0/1", "", "60m"}},
	} {
		got := kindtest.Row(k, kindtest.Read(t, k, meta+"spec: {"+inside(c.spec, "Never")+"}\nstatus: "+c.status))
		if want := append(c.want, "main", "a:1", "<none>"); !slices.Equal(got, want) {
			t.Errorf("row %q, want %q", got, want)
		}
	}
}

func cronJob(more string) string {
	if more != "" {
		more = ", " + more
	}
	return "metadata: {name: tick}\nspec: {schedule: '*/5 * * * *', jobTemplate: {spec: {" + inside("", "OnFailure") + "}}" + more + "}"
}

func TestCronJobRules(t *testing.T) {
	k := batch.CronJob()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a schedule and a template", New: cronJob("")},
		{Rule: "a schedule is needed", New: strings.Replace(cronJob(""), "*/5 * * * *", "", 1), Want: []string{"spec.schedule: Required value"}},
		{Rule: "a schedule can be read", New: strings.Replace(cronJob(""), "*/5 * * * *", "error", 1), Want: []string{
			`spec.schedule: Invalid value: "error": expected exactly 5 fields, found 1: [error]`}},
		{Rule: "a zone is not in the schedule", New: strings.Replace(cronJob(""), "*/5", "TZ=UTC */5", 1), Want: []string{
			`spec.schedule: Invalid value: "TZ=UTC */5 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead`}},
		{Rule: "a schedule that the library cannot read is no crash", New: strings.Replace(cronJob(""), "*/5 * * * *", "TZ=0", 1), Want: []string{
			`spec.schedule: Invalid value: "TZ=0": invalid schedule format: runtime error: slice bounds out of range [:-1]`,
			`spec.schedule: Invalid value: "TZ=0": cannot use TZ or CRON_TZ in schedule, use timeZone field instead`}},
		{Rule: "a zone that was in the schedule may stay", Old: strings.Replace(cronJob(""), "*/5", "TZ=UTC */5", 1), New: strings.Replace(cronJob("suspend: true"), "*/5", "TZ=UTC */5", 1)},
		{Rule: "zones have names", New: cronJob("timeZone: Continent/Zone"), Want: []string{`spec.timeZone: Invalid value: "Continent/Zone": unknown time zone Continent/Zone`}},
		{Rule: "zones do not depend on the machine", New: cronJob("timeZone: local"), Want: []string{
			`spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones`,
			`spec.timeZone: Invalid value: "local": unknown time zone local`}},
		{Rule: "zones are no paths", New: cronJob("timeZone: ../etc/passwd"), Want: []string{`spec.timeZone: Invalid value: "../etc/passwd": unknown time zone ../etc/passwd`}},
		{Rule: "a zone", New: cronJob("timeZone: Asia/Shanghai")},
		{Rule: "there are three ways to meet oneself", New: cronJob("concurrencyPolicy: Queue"), Want: []string{
			`spec.concurrencyPolicy: Unsupported value: "Queue": supported values: "Allow", "Forbid", "Replace"`}},
		{Rule: "a job's name is longer", New: strings.Replace(cronJob(""), "tick", strings.Repeat("t", 53), 1), Want: []string{
			`metadata.name: Invalid value: "` + strings.Repeat("t", 53) + `": must be no more than 52 characters`}},
		{Rule: "a selector is not for templates", New: strings.Replace(cronJob(""), "{spec: {", "{spec: {manualSelector: true, selector: {matchLabels: {a: b}}, ", 1), Want: []string{
			"spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
			`spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"`}},
	})
	c := kindtest.Create(t, k, cronJob("")).(*batchv1.CronJob)
	if s := c.Spec; s.ConcurrencyPolicy != "Allow" || *s.Suspend || *s.SuccessfulJobsHistoryLimit != 3 || *s.FailedJobsHistoryLimit != 1 || s.JobTemplate.Spec.Parallelism != nil {
		t.Errorf("defaulted to %+v", s)
	}
}

func TestCronJobRows(t *testing.T) {
	k := batch.CronJob()
	if got := strings.Join(kindtest.Header(k), " "); got != "Name Schedule Timezone Suspend Active Last Schedule Age Containers+ Images+ Selector+" {
		t.Errorf("header %s", got)
	}
	c := kindtest.Create(t, k, cronJob("")).(*batchv1.CronJob)
	c.CreationTimestamp = kindtest.Ago(time.Hour)
	if got := kindtest.Row(k, c); !slices.Equal(got, []any{"tick", "*/5 * * * *", "<none>", "False", int64(0), "<none>", "60m", "main", "a:1", "<none>"}) {
		t.Errorf("row %q", got)
	}
	last := kindtest.Ago(time.Minute)
	c.Status.LastScheduleTime, c.Spec.TimeZone = &last, new("UTC")
	if got := kindtest.Row(k, c); got[2] != "UTC" || got[5] != "60s" {
		t.Errorf("row %q", got)
	}
}

func TestWarnings(t *testing.T) {
	k := batch.Job()
	j := kindtest.Create(t, k, strings.Replace(job(""), "name: pi", "name: pi.calculus", 1))
	if got := k.Warn(j, nil); len(got) != 1 || !strings.HasPrefix(got[0], "metadata.name: this is used in Pod names and hostnames") {
		t.Errorf("warnings %q", got)
	}
	if got := k.Warn(j, j); len(got) > 0 {
		t.Errorf("an update that changes nothing warns: %q", got)
	}
}
