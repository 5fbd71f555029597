package cri

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine/image"
	"sampan/internal/fault"
)

// ListImages lists images, or the one the filter names.
func (s *Server) ListImages(ctx context.Context, r *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	list, err := s.images(ctx, r.GetFilter())
	return &runtimeapi.ListImagesResponse{Images: list}, rpc(err)
}

// StreamImages is ListImages in pieces.
func (s *Server) StreamImages(r *runtimeapi.StreamImagesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	list, err := s.images(stream.Context(), r.GetFilter())
	if err != nil {
		return rpc(err)
	}
	for piece := range slices.Chunk(list, streamPiece) {
		if err := stream.Send(&runtimeapi.StreamImagesResponse{Images: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) images(ctx context.Context, f *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if ref := f.GetImage().GetImage(); ref != "" {
		img, err := s.engine.Images.Get(ctx, ref)
		if fault.ClassOf(err) == fault.NotFound {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []*runtimeapi.Image{imageOf(img)}, nil
	}
	all, err := s.engine.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*runtimeapi.Image, len(all))
	for i, img := range all {
		out[i] = imageOf(img)
	}
	return out, nil
}

func imageOf(img image.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: img.ID.String(), RepoTags: img.Names, RepoDigests: img.Digests, Size: uint64(img.Size),
		Spec: &runtimeapi.ImageSpec{Annotations: map[string]string{}}}
	name, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(name, 10, 64); err == nil {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = name
	}
	return out
}

// ImageStatus tells of one image; no image and no error if it is not here.
func (s *Server) ImageStatus(ctx context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	img, err := s.engine.Images.Get(ctx, r.GetImage().GetImage())
	if fault.ClassOf(err) == fault.NotFound {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, rpc(err)
	}
	out := &runtimeapi.ImageStatusResponse{Image: imageOf(img)}
	if r.Verbose {
		out.Info = map[string]string{"platform": img.Platform.OS + "/" + img.Platform.Architecture}
	}
	return out, nil
}

// PullImage fetches an image from its registry and returns its ID.
func (s *Server) PullImage(ctx context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	auth, err := authOf(r.Auth)
	if err != nil {
		return nil, err
	}
	img, err := s.engine.Images.Pull(ctx, r.GetImage().GetImage(), image.PullOptions{Auth: auth})
	if err != nil {
		return nil, rpc(err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID.String()}, nil
}

// authOf reads credentials; auth is base64 of user:password (the CRI's and
// .docker/config.json's form).
func authOf(a *runtimeapi.AuthConfig) (image.Auth, error) {
	if a == nil {
		return image.Auth{}, nil
	}
	out := image.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Username == "" && a.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(b), ":")
		if err != nil || !ok {
			return out, invalid("pull image", a.ServerAddress, "the credentials are not base64 of user:password", "make the pull secret anew")
		}
		out.Username, out.Password = user, strings.TrimRight(password, "\x00")
	}
	return out, nil
}

// RemoveImage removes an image with all its names; nil if it is gone.
func (s *Server) RemoveImage(ctx context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	img, err := s.engine.Images.Get(ctx, r.GetImage().GetImage())
	if err == nil {
		_, err = s.engine.Images.Remove(ctx, img.ID.String(), true)
	}
	if fault.ClassOf(err) == fault.NotFound {
		err = nil
	}
	return &runtimeapi.RemoveImageResponse{}, rpc(err)
}

// ImageFsInfo says what layers and containers take.
func (s *Server) ImageFsInfo(ctx context.Context, r *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	layers, err := s.engine.Snapshots.Layers(ctx)
	if err != nil {
		return nil, rpc(err)
	}
	now := time.Now().UnixNano()
	id := &runtimeapi.FilesystemIdentifier{Mountpoint: s.engine.StateDir()}
	var bytes, files uint64
	for _, l := range layers {
		bytes, files = bytes+uint64(l.Size), files+uint64(l.Files)
	}
	out := &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{
		{Timestamp: now, FsId: id, UsedBytes: u64(bytes), InodesUsed: u64(files)}}}
	snapshots, err := s.engine.Snapshots.Snapshots(ctx)
	if err != nil {
		return nil, rpc(err)
	}
	bytes, files = 0, 0
	for _, sn := range snapshots {
		u, err := s.engine.Snapshots.Usage(ctx, sn.ID)
		if fault.ClassOf(err) == fault.NotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, rpc(err)
		}
		bytes, files = bytes+uint64(u.Bytes), files+uint64(u.Inodes)
	}
	out.ContainerFilesystems = []*runtimeapi.FilesystemUsage{{Timestamp: now, FsId: id, UsedBytes: u64(bytes), InodesUsed: u64(files)}}
	return out, nil
}

func u64(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }
