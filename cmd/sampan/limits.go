//go:build !split

package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"sampan/bootstrap"
)

// limitFlags are the flags of what clients may ask of the API, under upstream's
// names.
func limitFlags(f *pflag.FlagSet, l *bootstrap.Limits) {
	f.Var((*notValue)(&l.Unsorted), "enable-priority-and-fairness", "let requests wait for one another as FlowSchemas and PriorityLevelConfigurations say")
	f.Lookup("enable-priority-and-fairness").NoOptDefVal = "true"
	l.Reading, l.Writing = 400, 200
	f.Var((*countValue)(&l.Reading), "max-requests-inflight", "this and --max-mutating-requests-inflight are, together, the seats that priority levels share out; without them, how many requests that only read are worked on at once (0: any)")
	f.Var((*countValue)(&l.Writing), "max-mutating-requests-inflight", "likewise for requests that write")
	f.DurationVar(&l.Request, "request-timeout", time.Minute, "how long a request may take that is no watch and no stream")
	f.Var((*secondsValue)(&l.Watch), "min-request-timeout", "seconds that a watch lasts at least, if its client does not say how long; it ends before twice that (default 1800)")
	f.Float64Var(&l.Goaway, "goaway-chance", 0, "the part of HTTP/2 requests after which a client is asked to connect again, 0 to 0.02; for several servers behind a load balancer")
	f.DurationVar(&l.ShutdownDelay, "shutdown-delay-duration", 0, "how long to go on as before when asked to end; /readyz fails meanwhile")
	f.BoolVar(&l.ShutdownRetryAfter, "shutdown-send-retry-after", false, "answer requests with 429 and Retry-After while the last ones are worked on, instead of closing the port")
	f.DurationVar(&l.ShutdownWatches, "shutdown-watch-termination-grace-period", 0, "the time over which watches end, each at random, when the server does")
}

// notValue is a flag that turns off what is on by default.
type notValue bool

func (v *notValue) String() string { return strconv.FormatBool(!bool(*v)) }

func (v *notValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	*v = notValue(!b)
	return err
}

func (*notValue) Type() string { return "bool" }

// countValue is a limit, where 0 means that there is none.
type countValue int

func (v *countValue) String() string { return strconv.Itoa(max(int(*v), 0)) }

func (v *countValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err == nil && n < 0 {
		err = errors.New("can not be negative value")
	}
	if n == 0 {
		n = -1
	}
	*v = countValue(n)
	return err
}

func (*countValue) Type() string { return "int" }

// secondsValue is a time in whole seconds.
type secondsValue time.Duration

func (v *secondsValue) String() string {
	if *v == 0 {
		return ""
	}
	return strconv.Itoa(int(time.Duration(*v).Seconds()))
}

func (v *secondsValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err == nil && n < 0 {
		err = errors.New("can not be negative value")
	}
	*v = secondsValue(time.Duration(n) * time.Second)
	return err
}

func (*secondsValue) Type() string { return "int" }
