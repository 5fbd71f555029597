package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/internal/logfile"
	"sampan/node/pod"
)

// logOptions are corev1.PodLogOptions, of the query.
type logOptions struct {
	follow, previous, timestamps bool
	since                        time.Time
	tail                         int   // negative: all
	limit                        int64 // bytes; negative: none
	stream                       string
}

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{tail: -1, limit: -1, stream: "All"}
	bad := func(name string) error { return fmt.Errorf("unable to decode query: %s=%q", name, q.Get(name)) }
	for name, to := range map[string]*bool{"follow": &o.follow, "previous": &o.previous, "timestamps": &o.timestamps} {
		if v := q.Get(name); v != "" {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return o, bad(name)
			}
			*to = b
		}
	}
	if v := q.Get("tailLines"); v != "" && v != "all" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return o, bad("tailLines")
		}
		o.tail = n
	}
	if v := q.Get("limitBytes"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return o, bad("limitBytes")
		}
		o.limit = n
	}
	if v := q.Get("sinceSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return o, bad("sinceSeconds")
		}
		o.since = now.Add(-time.Duration(n) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, bad("sinceTime")
		}
		o.since = t
	}
	if v := q.Get("stream"); v != "" {
		if v != corev1.LogStreamAll && v != corev1.LogStreamStdout && v != corev1.LogStreamStderr {
			return o, bad("stream")
		}
		o.stream = v
	}
	return o, nil
}

// logs answers with what a container wrote, from the file that the runtime
// keeps; the container need not run.
func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	o, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	p, c, err := s.found(r)
	if err != nil {
		refuse(w, err, http.StatusNotFound)
		return
	}
	id, restart, err := which(p, c, o.previous)
	if err != nil {
		refuse(w, err, http.StatusBadRequest)
		return
	}
	path := s.logPath(r.Context(), p, c, id, restart)
	ctx := r.Context()
	read := logfile.Options{Since: o.since, Tail: o.tail, Follow: o.follow && !o.previous}
	if read.Follow {
		read.Done = s.Pods.Ended(ctx, p.UID, id)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := &logWriter{w: w, o: o, flush: flusher(w, read.Follow)}
	if read.Follow {
		w.WriteHeader(http.StatusOK) // the header tells a client that waits that it is served
		out.flush()
	}
	err = logfile.Read(ctx, path, read, out.entry)
	switch {
	case err == nil || errors.Is(err, errLimit) || ctx.Err() != nil:
	case errors.Is(err, fs.ErrNotExist) && !out.begun && !read.Follow:
		// It has written nothing yet, or its log was taken away.
	default:
		s.Log.Warn("log not read", "key", p.Namespace+"/"+p.Name, "container", c.Name, "err", err)
		if !out.begun && !read.Follow {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// which says of which run of a container logs are wanted; the texts are
// upstream's.
func which(p *corev1.Pod, c *corev1.ContainerStatus, previous bool) (id string, restart uint32, err error) {
	last := c.LastTerminationState.Terminated
	at := uint32(max(c.RestartCount, 0))
	switch {
	case previous && (last == nil || last.ContainerID == ""):
		return "", 0, fmt.Errorf("previous terminated container %q in pod %q not found", c.Name, p.Name)
	case previous:
		if last.ContainerID == c.ContainerID {
			return bare(last.ContainerID), at, nil // it waits to be restarted
		}
		return bare(last.ContainerID), max(at, 1) - 1, nil
	case c.State.Running != nil:
		return bare(c.ContainerID), at, nil
	case c.State.Terminated != nil:
		if c.State.Terminated.ContainerID == "" {
			if last != nil && last.ContainerID != "" {
				return bare(last.ContainerID), max(at, 1) - 1, nil
			}
			return "", 0, fmt.Errorf("container %q in pod %q is terminated", c.Name, p.Name)
		}
		return bare(c.State.Terminated.ContainerID), at, nil
	case last != nil:
		if last.ContainerID == c.ContainerID {
			return bare(last.ContainerID), at, nil
		}
		return bare(last.ContainerID), max(at, 1) - 1, nil
	case c.State.Waiting != nil:
		switch reason := c.State.Waiting.Reason; reason {
		case "ErrImagePull":
			return "", 0, fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", c.Name, p.Name)
		case "ImagePullBackOff":
			return "", 0, fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", c.Name, p.Name)
		default:
			return "", 0, fmt.Errorf("container %q in pod %q is waiting to start: %v", c.Name, p.Name, reason)
		}
	}
	return "", 0, fmt.Errorf("container %q in pod %q is not available", c.Name, p.Name)
}

// logPath asks the runtime; a container that it forgot has the usual path.
func (s *server) logPath(ctx context.Context, p *corev1.Pod, c *corev1.ContainerStatus, id string, restart uint32) string {
	if st, err := s.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id}); err == nil && filepath.IsAbs(st.GetStatus().GetLogPath()) {
		return st.Status.LogPath
	}
	return filepath.Join(pod.LogDirectory(s.LogDir, p.Namespace, p.Name, string(p.UID)), pod.LogPath(c.Name, restart))
}

var errLimit = errors.New("limitBytes are written")

// logWriter turns entries into what the client asked for.
type logWriter struct {
	w     io.Writer
	o     logOptions
	flush func()
	begun bool
	buf   []byte
}

func (l *logWriter) entry(e logfile.Entry) error {
	if l.o.stream == corev1.LogStreamStdout && e.Stream != logfile.Stdout || l.o.stream == corev1.LogStreamStderr && e.Stream == logfile.Stdout {
		return nil
	}
	l.buf = l.buf[:0]
	if l.o.timestamps && !e.Continued {
		l.buf = append(e.Time.AppendFormat(l.buf, rfc3339NanoFixed), ' ')
	}
	l.buf = append(l.buf, e.Line...)
	if !e.Partial {
		l.buf = append(l.buf, '\n')
	}
	full := false
	if l.o.limit >= 0 {
		if full = int64(len(l.buf)) >= l.o.limit; full {
			l.buf = l.buf[:l.o.limit]
		}
		l.o.limit -= int64(len(l.buf))
	}
	l.begun = true
	if _, err := l.w.Write(l.buf); err != nil {
		return err
	}
	l.flush()
	if full {
		return errLimit
	}
	return nil
}

// rfc3339NanoFixed keeps trailing zeros, as kubectl logs --timestamps shows.
const rfc3339NanoFixed = "2006-01-02T15:04:05.000000000Z07:00"

// flusher sends each line at once while following, and leaves the rest to the
// server's buffer.
func flusher(w http.ResponseWriter, follow bool) func() {
	if !follow {
		return func() {}
	}
	c := http.NewResponseController(w)
	return func() { _ = c.Flush() } // a writer that cannot flush still gets it all
}
