package pvesim

// uploadHandlers are the methods that bring templates to a storage.
var uploadHandlers = map[string]handler{
	"POST /nodes/{node}/aplinfo":                        downloadAppliance,
	"POST /nodes/{node}/storage/{storage}/upload":       uploadFile,
	"POST /nodes/{node}/storage/{storage}/download-url": downloadURL,
}
