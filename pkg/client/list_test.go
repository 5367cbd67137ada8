package client

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"google.golang.org/grpc/codes"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// pager answers lists of n Apps in pages; its token is the index of the next one. The
// token that is named in forgets is too old.
func pager(t *testing.T, n int, forgets string, asked *[]int32) *fakeServer {
	return &fakeServer{list: func(r *v1alpha1.ListRequest) (*v1alpha1.ListResponse, error) {
		*asked = append(*asked, r.GetLimit())
		if r.GetContinue() != "" && r.GetContinue() == forgets {
			return nil, refused(t, codes.OutOfRange, "Expired")
		}
		from, _ := strconv.Atoi(r.GetContinue())
		to := n
		if r.GetLimit() > 0 {
			to = min(n, from+int(r.GetLimit()))
		}
		resp := &v1alpha1.ListResponse{ResourceVersion: "7", RemainingItemCount: int32(n - to)}
		for i := from; i < to; i++ {
			resp.Items = append(resp.Items, packed(t, app(fmt.Sprint("a", i))))
		}
		if to < n {
			resp.Continue = strconv.Itoa(to)
		}
		return resp, nil
	}}
}

func TestListAllReadsEveryPage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		limit   int
		forgets string
		asked   string
	}{
		{"in pages", 2, "", "[2 2 2]"},
		{"in one page", 5, "", "[5]"},
		{"without pages", 0, "", "[0]"},
		{"all at once when the snapshot is gone", 2, "4", "[2 2 2 0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []int32
			list, err := dial(t, pager(t, 5, tt.forgets, &asked)).ListAll(context.Background(), "App", ListOptions{Limit: tt.limit})
			if err != nil || list.ResourceVersion != "7" || list.Continue != "" || list.Remaining != 0 || len(list.Items) != 5 {
				t.Fatalf("got %v, %v", list, err)
			}
			for i, o := range list.Items {
				if want := fmt.Sprint("a", i); resource.KeyOf(o).Name != want {
					t.Errorf("object %d is %s", i, resource.KeyOf(o))
				}
			}
			if fmt.Sprint(asked) != tt.asked {
				t.Errorf("asked for %v, want %s", asked, tt.asked)
			}
		})
	}
}

// TestLongListsKeepTheirOrder: their objects are decoded by several goroutines.
func TestLongListsKeepTheirOrder(t *testing.T) {
	const many = 5*unpackPart + 7
	var asked []int32
	list, err := dial(t, pager(t, many, "", &asked)).List(context.Background(), "App", ListOptions{})
	if err != nil || len(list.Items) != many {
		t.Fatalf("got %d objects, %v", len(list.Items), err)
	}
	for i, o := range list.Items {
		if want := fmt.Sprint("a", i); resource.KeyOf(o).Name != want {
			t.Fatalf("object %d is %s", i, resource.KeyOf(o))
		}
	}
	damaged := &fakeServer{list: func(*v1alpha1.ListRequest) (*v1alpha1.ListResponse, error) {
		resp := &v1alpha1.ListResponse{}
		for i := range many {
			resp.Items = append(resp.Items, packed(t, app(fmt.Sprint("a", i))))
		}
		resp.Items[many-1].Value = []byte{0xff}
		return resp, nil
	}}
	if list, err := dial(t, damaged).List(context.Background(), "App", ListOptions{}); err == nil || list.Items != nil {
		t.Errorf("a list whose last object is damaged: %d objects, %v", len(list.Items), err)
	}
}
