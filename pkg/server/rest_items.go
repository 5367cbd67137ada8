package server

import (
	"runtime"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// itemsAlone is the number of objects of a list that are not worth a second goroutine.
const itemsAlone = 256

// appendItems appends the objects of a list as JSON. A long list is shared out among the
// processors: it is work that a reader waits for and that nothing else makes shorter.
func appendItems(body []byte, kind *resource.Kind, list store.Snapshot) ([]byte, error) {
	n := len(list.Items) + len(list.Encoded)
	shares := min(runtime.GOMAXPROCS(0), n/itemsAlone+1)
	parts, errs := make([][]byte, shares), make([]error, shares)
	var wg sync.WaitGroup
	for i := range shares {
		share := func() { parts[i], errs[i] = encodeItems(kind, list, n*i/shares, n*(i+1)/shares) }
		if i == shares-1 {
			share()
		} else {
			wg.Go(share)
		}
	}
	wg.Wait()
	for i, part := range parts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if len(body)+len(part) > MaxSendBytes {
			return nil, errListTooLarge
		}
		if i > 0 && len(part) > 0 {
			body = append(body, ',')
		}
		body = append(body, part...)
	}
	return body, nil
}

// encodeItems returns the items from one up to another, with commas between them.
func encodeItems(kind *resource.Kind, list store.Snapshot, from, to int) (part []byte, err error) {
	for i := from; i < to; i++ {
		var obj resource.Object
		if list.Encoded != nil {
			obj = kind.New()
			if err := proto.Unmarshal(list.Encoded[i], obj); err != nil {
				return nil, err
			}
		} else {
			obj = list.Items[i]
		}
		item, err := resource.EncodeJSON(obj)
		if err != nil {
			return nil, err
		}
		if len(part)+len(item) > MaxSendBytes {
			return nil, errListTooLarge
		}
		if i > from {
			part = append(part, ',')
		}
		part = append(part, item...)
	}
	return part, nil
}
