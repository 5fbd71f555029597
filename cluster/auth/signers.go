package auth

import (
	"context"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"

	"sampan/cluster/request"
)

// MaySigner reports whether a user may do verb ("approve", "sign", "attest")
// for a signer, "domain/name": rules name it, or all of a domain.
func (z *Authorizer) MaySigner(ctx context.Context, u request.User, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		if ok, _ := z.Allowed(ctx, Attributes{User: u, Verb: verb, Group: certificatesv1.GroupName, Version: "*",
			Resource: "signers", Name: name}); ok {
			return true
		}
	}
	return false
}
