package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/uuid"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Record is one request on its way. It is safe for concurrent use: admission
// may annotate from several goroutines.
type Record struct {
	trail *Trail
	rule  rule

	mu    sync.Mutex    // guards all below
	event auditv1.Event // as far as is known
}

// IDHeader is the header that carries a request's name in the log, both ways.
const IDHeader = "Audit-Id"

const (
	maxUserAgent = 1024
	truncated    = "...TRUNCATED"
)

// Call is where a request comes from, and what its URL is.
type Call struct {
	ID        string // empty: it gets one
	URI       string
	UserAgent string
	SourceIPs []string
}

// callOf is an HTTP request's, of which nothing else is kept.
func callOf(r *http.Request) Call {
	c := Call{ID: r.Header.Get(IDHeader), URI: r.URL.RequestURI(), UserAgent: r.UserAgent()}
	for _, ip := range utilnet.SourceIPs(r) {
		c.SourceIPs = append(c.SourceIPs, ip.String())
	}
	return c
}

func newRecord(t *Trail, rule rule, c Call, at time.Time, a Attributes) *Record {
	id := types.UID(c.ID)
	if id == "" {
		id = uuid.NewUUID()
	}
	if len(c.UserAgent) > maxUserAgent {
		c.UserAgent = c.UserAgent[:maxUserAgent] + truncated
	}
	rec := &Record{trail: t, rule: rule, event: auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    rule.level, AuditID: id, RequestURI: c.URI, Verb: a.Verb, User: a.User.info(), SourceIPs: c.SourceIPs, UserAgent: c.UserAgent,
		RequestReceivedTimestamp: metav1.NewMicroTime(at),
	}}
	if a.Resource != "" {
		rec.event.ObjectRef = &auditv1.ObjectReference{Namespace: a.Namespace, Name: a.Name, APIGroup: a.Group, APIVersion: a.Version,
			Resource: a.Resource, Subresource: a.Subresource}
	}
	return rec
}

func (u User) info() authnv1.UserInfo {
	info := authnv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authnv1.ExtraValue{}
		}
		info.Extra[k] = v
	}
	return info
}

// ID names the request.
func (r *Record) ID() string { return string(r.event.AuditID) }

// Bodies says whether what is sent and answered is recorded: the first for the
// request's object, the second for the answer's.
func (r *Record) Bodies() (request, response bool) {
	return r.rule.level == auditv1.LevelRequest || r.rule.level == auditv1.LevelRequestResponse,
		r.rule.level == auditv1.LevelRequestResponse
}

// Impersonate notes as whom the user acts, and by which of KEP-5284's verbs.
func (r *Record) Impersonate(u User, constraint string) {
	info := u.info()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.ImpersonatedUser = &info
	if constraint != "" {
		r.event.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: constraint}
	}
}

// Annotate adds an annotation; of several values of one key the first counts.
// A detail is for records that have bodies.
func (r *Record) Annotate(key, value string, detail bool) {
	if request, _ := r.Bodies(); detail && !request {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.event.Annotations[key]; ok {
		if have != value {
			r.trail.log.Debug("a second value for an annotation of an audit event is dropped", "id", r.event.AuditID, "key", key)
		}
		return
	}
	// Events that were handed out share the map.
	all := maps.Clone(r.event.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	all[key] = value
	r.event.Annotations = all
}

// named is what an object says of itself.
type named struct {
	Metadata struct {
		Namespace, Name string
		UID             types.UID
		ResourceVersion string
	}
}

// Request notes the object that was sent, in JSON, which is kept.
func (r *Record) Request(object []byte) {
	var n named
	err := json.Unmarshal(object, &n)
	kept := r.kept(object, err == nil)
	if err == nil {
		r.About(n.Metadata.Namespace, n.Metadata.Name, n.Metadata.UID, n.Metadata.ResourceVersion)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if request, _ := r.Bodies(); request {
		r.event.RequestObject = kept
	}
}

// About notes what the object that was sent says of itself, where the URL has
// not said it.
func (r *Record) About(namespace, name string, uid types.UID, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.event.ObjectRef == nil {
		return
	}
	next := *r.event.ObjectRef // what was handed out shares the old one
	next.Namespace = cmp.Or(next.Namespace, namespace)
	next.Name = cmp.Or(next.Name, name)
	next.UID = cmp.Or(next.UID, uid)
	next.ResourceVersion = cmp.Or(next.ResourceVersion, version)
	r.event.ObjectRef = &next
}

// Patch notes a patch that was sent, in JSON, which is kept.
func (r *Record) Patch(patch []byte) {
	if request, _ := r.Bodies(); !request || !json.Valid(patch) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.RequestObject = &runtime.Unknown{Raw: patch, ContentType: runtime.ContentTypeJSON}
}

// Response notes the object answered with, in JSON, which is kept.
func (r *Record) Response(object []byte) {
	if _, response := r.Bodies(); !response {
		return
	}
	kept := r.kept(object, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.ResponseObject = kept
}

// Status notes a Status that was answered with.
func (r *Record) Status(s metav1.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event.ResponseStatus = &metav1.Status{Status: s.Status, Message: s.Message, Reason: s.Reason, Details: s.Details, Code: s.Code}
}

// Code notes the code of the answer.
func (r *Record) Code(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next metav1.Status
	if s := r.event.ResponseStatus; s != nil {
		next = *s
	}
	next.Code = int32(code)
	r.event.ResponseStatus = &next
}

// Answered says whether there is an answer by now.
func (r *Record) Answered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.event.ResponseStatus != nil
}

// Panicked notes that the request ended in a panic, and that stage.
func (r *Record) Panicked(p any) {
	r.Status(metav1.Status{Code: http.StatusInternalServerError, Status: metav1.StatusFailure,
		Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("APIServer panic'd: %v", p)})
	_ = r.Stage(auditv1.StagePanic) // there is nobody to tell
}

// Stage records that the request has come to a stage. An error means that it
// must not go on, because it is to be recorded without fail and was not.
func (r *Record) Stage(stage auditv1.Stage) error {
	if slices.Contains(r.rule.omit, stage) {
		return nil
	}
	r.mu.Lock()
	e := r.event
	r.mu.Unlock()
	e.Stage = stage
	e.StageTimestamp = e.RequestReceivedTimestamp
	if stage != auditv1.StageRequestReceived {
		e.StageTimestamp = metav1.NewMicroTime(time.Now())
	}
	var failed error
	for _, p := range r.trail.places {
		if err := p.take([]*auditv1.Event{&e}); err != nil && p.strict() {
			failed = err
		}
	}
	r.trail.counts.staged(failed != nil)
	return failed
}

// kept is an object as it goes into an event.
func (r *Record) kept(object []byte, whole bool) *runtime.Unknown {
	if r.rule.omitManaged && whole {
		if less, err := withoutManaged(object); err == nil {
			object = less
		}
	}
	return &runtime.Unknown{Raw: object, ContentType: runtime.ContentTypeJSON}
}

// withoutManaged leaves managedFields out of an object, of the items of a
// list, and of the rows of a table.
func withoutManaged(object []byte) ([]byte, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(object, &o); err != nil {
		return nil, err
	}
	if err := dropManaged(o); err != nil {
		return nil, err
	}
	for _, list := range []string{"items", "rows"} {
		var all []map[string]json.RawMessage
		if raw, ok := o[list]; !ok || json.Unmarshal(raw, &all) != nil {
			continue
		}
		for _, one := range all {
			err := dropManaged(one)
			if list == "rows" && len(one["object"]) > 0 {
				one["object"], err = withoutManaged(one["object"])
			}
			if err != nil {
				return nil, err
			}
		}
		raw, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		o[list] = raw
	}
	return json.Marshal(o)
}

func dropManaged(o map[string]json.RawMessage) error {
	var meta map[string]json.RawMessage
	if raw, ok := o["metadata"]; !ok || json.Unmarshal(raw, &meta) != nil || meta["managedFields"] == nil {
		return nil
	}
	delete(meta, "managedFields")
	raw, err := json.Marshal(meta)
	o["metadata"] = raw
	return err
}
