package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// services measures how long it takes until many new services lead to their
// endpoint, which is this process, from the first creation on. Upstream's are
// made by kube-proxy with iptables, the mode that it starts in.
func (b *bench) services(ctx context.Context, all []*side) []*row {
	var rows []*row
	listener, err := net.Listen("tcp4", net.JoinHostPort(benchAddress, "0"))
	if err != nil {
		r := b.row("services", "s", lessIsBetter)
		r.fail(ours, err)
		return []*row{r}
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	port := int32(listener.Addr().(*net.TCPAddr).Port)
	made, gone := 0, map[string]error{}
	for _, upTo := range []int{1000, 5000} {
		r := b.row(fmt.Sprintf("from %d to %d services, until the last one answers", made, upTo), "s", lessIsBetter)
		rows = append(rows, r)
		for _, s := range all {
			if err := gone[s.who]; err != nil {
				r.fail(s.who, err) // it would take as long to fail again
				continue
			}
			wall, cpu, err := s.serve(ctx, made, upTo, port)
			if err != nil {
				gone[s.who] = err
				r.fail(s.who, err)
				continue
			}
			r.add(s.who, wall.Seconds(), milliseconds(cpu)/float64(upTo-made))
		}
		made = upTo
	}
	return rows
}

func (s *side) serve(ctx context.Context, from, to int, port int32) (wall, cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	addresses := make([]string, to-from)
	before, began := s.spent(), time.Now()
	_, _, err = s.spread(asProtobuf, to-from, func(c *kubernetes.Clientset, i int) error {
		name := fmt.Sprintf("service-%04d", from+i)
		svc, err := c.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		addresses[i] = svc.Spec.ClusterIP
		ready, protocol, portName := true, corev1.ProtocolTCP, ""
		_, err = c.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{benchAddress}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
			Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
		}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	// The last ones, and some of all: rules need not come in order.
	var asked []string
	for i := 0; i < len(addresses); i += len(addresses) / 20 {
		asked = append(asked, addresses[i])
	}
	for _, a := range append(asked, addresses[len(addresses)-20:]...) {
		if err := reach(ctx, a); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", s.who, err)
		}
	}
	return time.Since(began), s.spent() - before, nil
}

// reach connects to a service as often as it takes.
func reach(ctx context.Context, address string) error {
	for {
		d := net.Dialer{Timeout: 200 * time.Millisecond}
		c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort(address, strconv.Itoa(80)))
		if err == nil {
			return c.Close()
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			return fmt.Errorf("service at %s: %w", address, err)
		}
	}
}
