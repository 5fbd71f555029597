package pod

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/fault"
)

// Limits of termination messages, upstream's.
const (
	maxWords    = 4096
	maxLogWords = 2048
	maxLogLines = 80
)

// message is what a container left as its last words: the file at
// terminationMessagePath, or the end of its log where policy says so and it
// failed. Read once for each container that exited.
func (w *Worker) message(c *corev1.Container, s *Container) string {
	if m, ok := w.messages[s.Id]; ok {
		return m
	}
	m := ""
	path := s.Annotations[messagePathAnnotation]
	for _, mount := range s.Mounts {
		if path != "" && mount.ContainerPath == path {
			m = head(mount.HostPath)
		}
	}
	if m == "" && path != "" && len(s.Mounts) == 0 {
		m = head(filepath.Join(w.c.Dir, string(w.uid), "containers", c.Name, wordsFile(c.Name, restartCount(s))))
	}
	if m == "" && s.ExitCode != 0 && c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		pod := w.Pod()
		log := s.LogPath
		if !filepath.IsAbs(log) {
			log = filepath.Join(LogDirectory(w.c.Host().LogDir, pod.Namespace, pod.Name, string(pod.UID)), LogPath(c.Name, restartCount(s)))
		}
		var err error
		if m, err = logTail(log); err != nil {
			m = "Error reading termination message from logs: " + err.Error()
		}
	}
	w.messages[s.Id] = m
	return m
}

func head(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxWords))
	if err != nil {
		return ""
	}
	return string(b)
}

// logTail is the last lines of a log in CRI's format, without its frame.
func logTail(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &fault.Error{Op: "read log", On: path, Err: err}
	}
	defer f.Close()
	const window = 64 << 10 // frames of 80 lines, more than 2 kB of text
	if info, err := f.Stat(); err == nil && info.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return "", &fault.Error{Op: "read log", On: path, Err: err}
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, window))
	if err != nil {
		return "", &fault.Error{Op: "read log", On: path, Err: err}
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	var texts []string
	for _, line := range lines {
		// time stream tag text
		f := strings.SplitN(string(line), " ", 4)
		if len(f) < 4 {
			continue
		}
		text := f[3]
		if f[2] == "P" {
			text = strings.TrimSuffix(text, "\n")
		}
		texts = append(texts, text)
	}
	all := strings.Join(texts[max(0, len(texts)-maxLogLines):], "")
	return all[max(0, len(all)-maxLogWords):], nil
}
