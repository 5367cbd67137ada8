package pvesim

// accountHandlers are the methods of users, groups, tokens, roles and pools beside those
// that a login needs.
var accountHandlers = map[string]handler{
	"GET /access":          accessIndex,
	"GET /access/domains":  listDomains,
	"PUT /access/password": setPassword,

	"GET /access/groups":              listGroups,
	"POST /access/groups":             createGroup,
	"GET /access/groups/{groupid}":    getGroup,
	"PUT /access/groups/{groupid}":    updateGroup,
	"DELETE /access/groups/{groupid}": deleteGroup,

	"GET /access/roles/{roleid}":    getRole,
	"PUT /access/roles/{roleid}":    updateRole,
	"DELETE /access/roles/{roleid}": deleteRole,

	"GET /access/users/{userid}":                 getUser,
	"PUT /access/users/{userid}":                 updateUser,
	"DELETE /access/users/{userid}":              deleteUser,
	"GET /access/users/{userid}/tfa":             userTFA,
	"GET /access/users/{userid}/token":           listTokens,
	"GET /access/users/{userid}/token/{tokenid}": getToken,
	"PUT /access/users/{userid}/token/{tokenid}": updateToken,

	"GET /pools":             listPools,
	"POST /pools":            createPool,
	"PUT /pools":             updatePool,
	"DELETE /pools":          deletePool,
	"GET /pools/{poolid}":    getPool,
	"PUT /pools/{poolid}":    updatePool,
	"DELETE /pools/{poolid}": deletePool,
}
