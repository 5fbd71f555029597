package encrypt

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	kmsv2 "k8s.io/kms/apis/v2"
)

// remote is a plugin behind a unix socket.
type remote struct {
	conn   *grpc.ClientConn
	client kmsv2.KeyManagementServiceClient
}

// dial prepares to reach a plugin. It connects when it is first asked, and
// again when the plugin was away.
func dial(endpoint string) (plugin, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("invalid endpoint %q for remote KMS provider, error: %w", endpoint, err)
	}
	socket := u.Path
	if strings.HasPrefix(socket, "/@") { // an abstract one
		socket = socket[1:]
	}
	again := backoff.DefaultConfig
	again.MaxDelay = pollIll // a plugin that is back is not kept waiting
	conn, err := grpc.NewClient("passthrough:///kms",
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: pollIll}),
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		return nil, err
	}
	return &remote{conn, kmsv2.NewKeyManagementServiceClient(conn)}, nil
}

func (r *remote) Status(ctx context.Context) (*kmsv2.StatusResponse, error) {
	return r.client.Status(ctx, &kmsv2.StatusRequest{})
}

func (r *remote) Encrypt(ctx context.Context, q *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	return r.client.Encrypt(ctx, q)
}

func (r *remote) Decrypt(ctx context.Context, q *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	return r.client.Decrypt(ctx, q)
}

func (r *remote) Close() error { return r.conn.Close() }
