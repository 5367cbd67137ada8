package pvesim

// accessHandlers are the methods of users, tokens, roles and tickets.
var accessHandlers = map[string]handler{
	"GET /access/acl":                               listACL,
	"PUT /access/acl":                               updateACL,
	"GET /access/permissions":                       getPermissions,
	"GET /access/roles":                             listRoles,
	"POST /access/roles":                            createRole,
	"GET /access/ticket":                            getTicket,
	"POST /access/ticket":                           createTicket,
	"GET /access/users":                             listUsers,
	"POST /access/users":                            createUser,
	"DELETE /access/users/{userid}/token/{tokenid}": deleteToken,
	"POST /access/users/{userid}/token/{tokenid}":   createToken,
}
