package guest

import "context"

// WriteFilesBelow is WriteFiles with another place for staging.
func WriteFilesBelow(ctx context.Context, r Runner, t Target, files []File, root string) error {
	return writeFiles(ctx, r, t, files, root)
}

// UseInterfaces makes o edit another file.
func (o *OnNode) UseInterfaces(file, lock string) { o.interfaces, o.lock = file, lock }
