package webhook

import (
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// FromFile reads of a program that an administrator named in the format of a
// kubeconfig (cluster is the program, user is this API server) where it is, and
// how it is talked to: no call takes longer than timeout. It connects to
// nothing.
func FromFile(path string, timeout time.Duration) (address string, client *http.Client, err error) {
	// Without the rules that fall back to other files and this pod's account.
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", nil, err
	}
	if err := clientcmd.ResolveLocalPaths(raw); err != nil {
		return "", nil, err
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return "", nil, err
	}
	cfg.Timeout, cfg.UserAgent = timeout, "kube-apiserver"
	if client, err = rest.HTTPClientFor(cfg); err != nil {
		return "", nil, err
	}
	// A token is nothing to be sent on to wherever an answer points.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return cfg.Host, client, nil
}
