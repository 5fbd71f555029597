// Command operator is a small operator on controller-runtime, as people write
// them: it keeps crews (package crew). It may run several times; one leads.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"sampan/test/clients/crew"
)

func main() {
	port := flag.Int("webhook-port", 9443, "port of 127.0.0.1 where webhooks are served")
	flag.Parse() // --kubeconfig is controller-runtime's
	if err := run(*port); err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

func run(port int) error {
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil)))
	if err := crew.AddToScheme(scheme.Scheme); err != nil {
		return err
	}
	key, err := newKeyPair()
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:           scheme.Scheme,
		LeaderElection:   true,
		LeaderElectionID: "crews-operator", LeaderElectionNamespace: "default",
		Metrics: server.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			// Of the ConfigMaps, only those that are orders.
			&corev1.ConfigMap{}: {Label: labels.SelectorFromSet(labels.Set{ordersLabel: "true"})},
		}},
		WebhookServer: webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &key.pair, nil }
		}}}),
	})
	if err != nil {
		return err
	}
	if err := (&reconciler{Client: m.GetClient(), events: m.GetEventRecorder("crews")}).setUp(m); err != nil {
		return err
	}
	if err := ctrl.NewWebhookManagedBy(m, &crew.Crew{}).WithDefaulter(rules{}).WithValidator(rules{}).Complete(); err != nil {
		return err
	}
	if err := m.Add(&registrar{Client: m.GetClient(), port: port, ca: key.certificate}); err != nil {
		return err
	}
	return m.Start(ctrl.SetupSignalHandler())
}
