package bootstrap

import (
	"context"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sampan/cluster/auth"
	"sampan/cluster/request"
)

// expressionRights answers the variable "authorizer" of expressions in webhooks
// and policies.
type expressionRights struct{ *auth.Authorizer }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (r expressionRights) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	of := auth.Attributes{
		User: request.User{Name: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: u.GetExtra()},
		Verb: a.GetVerb(), Group: a.GetAPIGroup(), Version: a.GetAPIVersion(), Resource: a.GetResource(), Subresource: a.GetSubresource(),
		Namespace: a.GetNamespace(), Name: a.GetName(),
	}
	if !a.IsResourceRequest() {
		of.Path = a.GetPath()
	}
	fields, err := a.GetFieldSelector()
	if err != nil {
		return authorizer.DecisionNoOpinion, "", err
	}
	of.Fields = fields
	if ok, why := r.Allowed(ctx, of); ok {
		return authorizer.DecisionAllow, why, nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}
