package pvesim

// storageHandlers are the methods of storages and templates.
var storageHandlers = map[string]handler{
	"GET /nodes/{node}/aplinfo":                               listAplinfo,
	"GET /nodes/{node}/storage":                               listStorage,
	"GET /nodes/{node}/storage/{storage}/content":             storageContent,
	"DELETE /nodes/{node}/storage/{storage}/content/{volume}": deleteVolume,
	"GET /nodes/{node}/storage/{storage}/status":              storageStatus,
}
