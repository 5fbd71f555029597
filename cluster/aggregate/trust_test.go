package aggregate

import "testing"

func TestProxiesInFrontAreBelievedBehindToo(t *testing.T) {
	const names, users = "requestheader-allowed-names", "requestheader-username-headers"
	own := Trust{ClientCA: "CLIENT\n", ProxyCA: "PROXY\n", Names: []string{"front-proxy-client"}}
	if got := own.in(nil); got[names] != `["front-proxy-client"]` || got[users] != `["X-Remote-User"]` || got["requestheader-client-ca-file"] != "PROXY\n" {
		t.Errorf("without proxies: %v", got)
	}
	with := own
	with.Proxies = &Proxies{CA: "CORP\n", Names: []string{"corp"}, UserHeaders: []string{"X-Corp-User"}}
	got := with.in(nil)
	if got[names] != `["front-proxy-client","corp"]` || got[users] != `["X-Remote-User","X-Corp-User"]` || got["requestheader-client-ca-file"] != "PROXY\nCORP\n" {
		t.Errorf("with one by name: %v", got)
	}
	if again := with.in(got); again["requestheader-client-ca-file"] != got["requestheader-client-ca-file"] || again[names] != got[names] {
		t.Errorf("a second time: %v", again)
	}
	with.Proxies = &Proxies{CA: "CORP\n", UserHeaders: []string{"X-Corp-User"}}
	if got := with.in(got); got[names] != `[]` {
		t.Errorf("with any name: %v", got[names])
	}
}
