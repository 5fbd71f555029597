package engine

import "testing"

func TestWhatTheProcessMayNotDoIsSaidOnce(t *testing.T) {
	var e Engine
	for _, c := range []struct {
		warning string
		want    bool
	}{
		{"write(oom_score_adj, -998): permission denied", true},
		{"write(oom_score_adj, -997): permission denied", false},
		{"prlimit64(RLIMIT_NOFILE): operation not permitted", true},
		{"prlimit64(RLIMIT_NOFILE): operation not permitted", false},
		{"resources not limited, because it is not there yet: rdma", true},
		{"resources not limited, because it is not there yet: rdma", true},
	} {
		if got := e.news(c.warning); got != c.want {
			t.Errorf("%s: got %v", c.warning, got)
		}
	}
}
