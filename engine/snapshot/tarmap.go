package snapshot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// tarMap is what a layer's tar has beside the files' contents: headers,
// padding, the end. With it and the unpacked files the tar can be given back
// bit for bit, at about a hundredth of its size. It is a zstd stream of
// records: 'R' length bytes, 'F' size length path; numbers are uvarints.
const tarMap = "tar.zst"

// recorder reads a tar for archive/tar and writes its map on the way. While a
// file's content is read, the bytes are hashed only.
type recorder struct {
	r       io.Reader
	out     *zstd.Encoder
	file    *os.File
	h       hash.Hash
	size    int64
	raw     []byte
	content bool
	files   int // contents so far
}

func newRecorder(r io.Reader, to string) (*recorder, error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	out, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(128<<10))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &recorder{r: r, out: out, file: f, h: digest.SHA256.Hash(), raw: make([]byte, 0, 64<<10)}, nil
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.h.Write(p[:n])
	c.size += int64(n)
	if !c.content {
		c.raw = append(c.raw, p[:n]...)
		if len(c.raw) >= 48<<10 {
			if e := c.flush(); e != nil {
				return n, e
			}
		}
	}
	return n, err
}

func (c *recorder) flush() error {
	if len(c.raw) == 0 {
		return nil
	}
	_, err := c.out.Write(binary.AppendUvarint([]byte{'R'}, uint64(len(c.raw))))
	if err == nil {
		_, err = c.out.Write(c.raw)
	}
	c.raw = c.raw[:0]
	return err
}

func (c *recorder) beginFile(name string, size int64) error {
	if err := c.flush(); err != nil {
		return err
	}
	b := binary.AppendUvarint([]byte{'F'}, uint64(size))
	b = binary.AppendUvarint(b, uint64(len(name)))
	_, err := c.out.Write(append(b, name...))
	c.content = true
	c.files++
	return err
}

func (c *recorder) endFile() { c.content = false }

// finish reads what follows the tar's end mark and ends the map.
func (c *recorder) finish() error {
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{c}); err != nil {
		return &fault.Error{Class: fault.Invalid, Op: "read layer", Err: err, Fix: "the layer is damaged: get it again"}
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.out.Close()
}

func (c *recorder) digest() digest.Digest { return digest.NewDigest(digest.SHA256, c.h) }

func (c *recorder) close() { c.file.Close() }

// writeTar gives a layer's tar back. It verifies the digest at the end: the
// reader of a wrong tar gets an error before the end of file.
func writeTar(ctx context.Context, w io.Writer, dir string, moves []move, want digest.Digest) error {
	bad := func(err error) error {
		return &fault.Error{Op: "read back layer", On: want.String(), Err: err, Fix: "its files were changed on disk: remove the image and load or pull it again"}
	}
	f, err := os.Open(path.Join(dir, tarMap))
	if err != nil {
		return bad(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return bad(err)
	}
	defer z.Close()
	root, err := os.Open(dir)
	if err != nil {
		return bad(err)
	}
	defer root.Close()
	fs, err := os.Open(path.Join(dir, "fs"))
	if err != nil {
		return bad(err)
	}
	defer fs.Close()
	h := digest.SHA256.Hash()
	out := io.MultiWriter(w, h)
	in := bufio.NewReader(z)
	buf := make([]byte, 128<<10)
	for seq := 0; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, err := in.ReadByte()
		if err == io.EOF {
			break
		}
		n, err2 := binary.ReadUvarint(in)
		if err = errors.Join(err, err2); err != nil {
			return bad(err)
		}
		if kind == 'R' {
			if _, err := io.CopyN(out, in, int64(n)); err != nil {
				return bad(err)
			}
			continue
		}
		l, err := binary.ReadUvarint(in)
		if err != nil || kind != 'F' || l > 1<<20 {
			return bad(errors.Join(err, errors.New("the tar map is damaged")))
		}
		name := make([]byte, l)
		if _, err := io.ReadFull(in, name); err != nil {
			return bad(err)
		}
		file, err := openMoved(int(root.Fd()), int(fs.Fd()), string(name), moves, seq)
		if err != nil {
			return bad(err)
		}
		seq++
		copied, err := io.CopyBuffer(out, struct{ io.Reader }{io.LimitReader(file, int64(n))}, buf)
		file.Close()
		if err != nil {
			return bad(err)
		}
		if copied != int64(n) {
			return bad(errors.New(string(name) + " is shorter than it was"))
		}
	}
	if got := digest.NewDigest(digest.SHA256, h); got != want {
		return bad(errors.New("its digest is now " + got.String()))
	}
	return nil
}

// openMoved opens content number seq, which the tar had at name.
func openMoved(root, fs int, name string, moves []move, seq int) (*os.File, error) {
	at := "fs/" + name
	for _, m := range moves {
		if m.Seq > seq && (at == m.From || strings.HasPrefix(at, m.From+"/")) {
			at = m.To + at[len(m.From):]
		}
	}
	dir, rest := root, at
	if inner, ok := strings.CutPrefix(at, "fs/"); ok {
		dir, rest = fs, inner // links are the layer's own: its root is fs
	}
	fd, err := linux.OpenInRoot(dir, rest, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), at), nil
}
