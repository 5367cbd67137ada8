package pvesim

// storageConfHandlers are the methods of the cluster's storage configuration.
var storageConfHandlers = map[string]handler{
	"GET /storage":              listStorageConf,
	"POST /storage":             createStorageConf,
	"GET /storage/{storage}":    getStorageConf,
	"PUT /storage/{storage}":    updateStorageConf,
	"DELETE /storage/{storage}": deleteStorageConf,
}
