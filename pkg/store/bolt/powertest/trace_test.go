package powertest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// quoted is strace's notation with -xx.
func quoted(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return b.String()
}

const database = "/data/state.db"

var (
	file    = "5<" + quoted(database) + ">"
	newFile = "5<" + quoted("/data/state.db.new-1") + ">"
	other   = "6<" + quoted("/etc/passwd") + ">"
	folder  = "7<" + quoted("/data") + ">"
)

func TestParse(t *testing.T) {
	trace := strings.Join([]string{
		`1 openat(AT_FDCWD<` + quoted("/") + `>, "` + quoted("/data/state.db.new-1") + `", O_RDWR|O_CREAT|O_EXCL, 0600) = ` + newFile,
		`1 pwrite64(` + newFile + `, "` + quoted("abcd") + `", 4, 0) = 4`,
		`1 fdatasync(` + newFile + `) = 0`,
		`1 linkat(AT_FDCWD<` + quoted("/") + `>, "` + quoted("/data/state.db.new-1") + `", AT_FDCWD<` + quoted("/") + `>, "` + quoted(database) + `", 0) = 0`,
		`1 fsync(` + folder + `) = 0`,
		`1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, ` + file + `, 0) = 0x7f0000000000`,
		`2 pwrite64(` + other + `, "` + quoted("zz") + `", 2, 0) = 2`,
		`1 ftruncate(` + file + `, 8192) = 0`,
		`1 pwrite64(` + file + `, "` + quoted("ef") + `", 2, 4096 <unfinished ...>`,
		`2 write(1<` + quoted("pipe:[1]") + `>, "` + quoted("written 0 1 2\n") + `", 14) = 14`,
		`1 <... pwrite64 resumed>) = 2`,
		`1 fsync(` + file + ` <unfinished ...>`,
		`2 write(2<` + quoted("pipe:[2]") + `>, "` + quoted("noise\n") + `", 6) = 6`,
		`1 <... fsync resumed>) = 0`,
		`1 +++ exited with 0 +++`,
	}, "\n")
	got, err := parse(strings.NewReader(trace), database)
	if err != nil {
		t.Fatal(err)
	}
	want := []op{
		{kind: opWrite, data: []byte("abcd")}, {kind: opBarrier}, {kind: opNamed}, {kind: opNameBarrier},
		{kind: opTruncate, offset: 8192}, {kind: opWrite, offset: 4096, data: []byte("ef")},
		{kind: opLine, text: "written 0 1 2"}, {kind: opBarrier},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// What the images would not show must not be recorded in silence.
func TestParseRefuses(t *testing.T) {
	write := `1 pwrite64(` + file + `, "` + quoted("ef") + `", 2, 0`
	for name, trace := range map[string]string{
		"a write cut off":                `1 pwrite64(` + file + `, "` + quoted("ef") + `"..., 9, 0) = 9`,
		"a short write":                  write + `) = 1`,
		"a failed barrier":               `1 fdatasync(` + file + `) = -1 EIO (Input/output error)`,
		"a barrier during a write":       write + " <unfinished ...>\n2 fsync(" + file + ") = 0",
		"a write during a barrier":       `2 fsync(` + file + " <unfinished ...>\n" + write + ") = 2",
		"a write through a mapping":      `1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, ` + file + `, 0) = 0x7f0000000000`,
		"another way to write":           `1 fallocate(` + file + `, 0, 0, 4096) = 0`,
		"bytes that are not in the call": `1 pwrite64(` + file + `, "` + quoted("ef") + `", 3, 0) = 3`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(strings.NewReader(trace), database); !errors.Is(err, errTrace) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A plan has different images, loses nothing that was synced, and is the same each time.
func TestPlan(t *testing.T) {
	ops := []op{
		{kind: opNamed}, {kind: opNameBarrier},
		{kind: opWrite, data: make([]byte, 4096)}, {kind: opTruncate, offset: 8192}, {kind: opBarrier},
		{kind: opWrite, offset: 700, data: make([]byte, 1000)}, {kind: opBarrier}, {kind: opLine, text: "x"},
	}
	images := plan(ops, 1, 100)
	if len(images) < 20 || !reflect.DeepEqual(images, plan(ops, 1, 100)) {
		t.Fatalf("%d images", len(images))
	}
	seen := map[string]bool{}
	for i, im := range images {
		if i > 0 && im.cut < images[i-1].cut {
			t.Error("out of order")
		}
		if seen[im.key(ops)] {
			t.Errorf("%+v is there twice", im)
		}
		seen[im.key(ops)] = true
		if im.absent && im.cut > 1 {
			t.Errorf("%+v loses the file", im)
		}
		for j, o := range ops[:im.cut] {
			if o.kind == opBarrier && im.synced < j {
				t.Errorf("%+v loses what step %d synced", im, j)
			}
		}
	}
	var sizes []int
	for _, u := range units(ops, 5, 7) { // 700..1700 touches sectors 1, 2 and 3
		sizes = append(sizes, len(u.data))
	}
	if !reflect.DeepEqual(sizes, []int{324, 512, 164}) {
		t.Errorf("units of %v bytes", sizes)
	}
}
