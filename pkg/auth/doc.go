// Package auth says who a caller is and what they may do.
//
// # Contract
//
//   - A caller shows a credential in the Authorization header (HTTP) or the authorization
//     metadata (gRPC), as "Bearer <token>", and nowhere else: never in a query, a cookie
//     or a body, which end up in logs and histories.
//   - An Authenticator turns the credential into an Identity or refuses with an error
//     that matches ErrUnauthenticated. The identity travels in the context.
//   - Authorize is the one decision point. Every route, RPC and stream, and whatever else
//     acts for somebody (a GitRepository's sync), passes it with a verb, a kind and a
//     namespace; what no rule allows is refused with an error that matches ErrForbidden.
//   - A Policy is compiled from roles and bindings and never changes; an Authorizer has the
//     one in force and puts it into contexts (As). MayGrant keeps people from giving away
//     what they have not got.
//   - OpenRoutes is the one table of what needs no credential.
//
// The local administrator is whoever can read the token file that EnsureToken makes at
// first start. EnsureCA makes the local certificate authority and the server's
// certificate. Tokens and keys are never logged and never part of an error.
package auth
