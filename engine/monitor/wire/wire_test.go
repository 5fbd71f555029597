package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestAMessageSurvivesTheWire(t *testing.T) {
	req := Request{Header: Header{Start, 7}, Version: Version, ID: "web", Signal: 15, Width: 80, Height: 24, Streams: 5,
		Start: StartRequest{Flags: TTY | Stdin, LogFormat: "cri", LogPath: "/l", LogMaxSize: 1 << 40, LogMaxFiles: 3, OnExit: []string{"a", "", "c"}}}
	got, err := DecodeRequest(req.Append(nil))
	if err != nil || !reflect.DeepEqual(got, req) {
		t.Errorf("request: got %+v, %v\nwant %+v", got, err, req)
	}
	rep := Reply{Header: Header{Failed, 9}, Errno: 2, Call: "clone3", FailedOp: -1, Notes: []Note{{1, 2}, {3, 4}}, Pid: 5, StartTime: 6,
		StartedAt: -1, ID: "x", Exec: true, Ended: true, Code: 137, Signal: 9, EndedAt: 8, Count: 3}
	back, err := DecodeReply(rep.Append(nil))
	if err != nil || !reflect.DeepEqual(back, rep) {
		t.Errorf("reply: got %+v, %v\nwant %+v", back, err, rep)
	}
}

func TestATruncatedOrPaddedMessageIsMalformed(t *testing.T) {
	req := Request{Header: Header{Start, 7}, ID: "web", Start: StartRequest{OnExit: []string{"a"}}}
	whole := req.Append(nil)
	for n := range whole {
		if _, err := DecodeRequest(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were accepted", n, len(whole))
		}
	}
	if _, err := DecodeRequest(append(whole, 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&Request{Header: Header{Hello, 1}, ID: "a"}).Append(nil))
	f.Add((&Reply{Header: Header{Exited, 0}, ID: "a", Notes: []Note{{1, 2}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRequest(b); err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("request %x is not what it was decoded from", b)
		}
		if r, err := DecodeReply(b); err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("reply %x is not what it was decoded from", b)
		}
	})
}
