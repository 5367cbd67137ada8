package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// wish is what a pack should have.
type wish struct {
	commit string
	// have is a commit, fetched without its history, whose files need not come again; "".
	have string
	// history asks for everything that leads to the commit.
	history bool
}

// wishFor is how a commit can be had: by its name, or with the history of a branch.
func wishFor(adv *packp.AdvRefs, commit, branch string) (wish, error) {
	if givesOut(adv, commit) {
		return wish{commit: commit}, nil
	}
	all := branches(adv, branch)
	if len(all) == 0 {
		return wish{}, failf(ReasonRefNotFound, "the repository has no branches")
	}
	return wish{commit: all[0], history: true}, nil
}

// download asks for a pack, examines it and unpacks it into a storage.
func download(ctx context.Context, s session, adv *packp.AdvRefs, w wish, into *filesystem.Storage, dir string, l Limits) error {
	req, err := w.request(adv.Capabilities)
	if err != nil {
		return err
	}
	body, err := encodeRequest(req)
	if err != nil {
		return err
	}
	answer, err := s.request(ctx, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	pack, err := os.CreateTemp(dir, "incoming-")
	if err != nil {
		return because(ReasonCacheUnavailable, err, "keep the pack")
	}
	defer os.Remove(pack.Name())
	defer pack.Close()
	said := &tail{}
	if err := receive(answer, req, pack, said, l.PackBytes); err != nil {
		err = s.explain(err)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if text := said.text(); text != "" && ReasonOf(err) == "" {
			err = fmt.Errorf("%w; the server said: %s", err, text)
		}
		return wrap(ReasonTransfer, err, "the transfer failed")
	}
	if err := examine(pack, l); err != nil {
		return err
	}
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return because(ReasonCacheUnavailable, err, "read the pack")
	}
	return wrap(ReasonTransfer, unpack(into, pack, w.have != ""), "the pack cannot be unpacked")
}

func examine(pack *os.File, l Limits) error {
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return because(ReasonCacheUnavailable, err, "read the pack")
	}
	return checkPack(pack, l)
}

// unpack calls the library, whose panics are errors of this pack. One that adds to what is
// there may refer to it; it is small, and its objects become files of their own.
func unpack(into *filesystem.Storage, pack io.Reader, adds bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the unpacker gave up: %v", v)
		}
	}()
	if !adds {
		return packfile.WritePackfileToObjectStorage(into, pack)
	}
	parser, err := packfile.NewParserWithStorage(packfile.NewScanner(pack), into)
	if err != nil {
		return err
	}
	_, err = parser.Parse()
	return err
}

func (w wish) request(server *capability.List) (*packp.UploadPackRequest, error) {
	req := packp.NewUploadPackRequest()
	for _, c := range []capability.Capability{capability.OFSDelta, capability.Sideband64k, capability.NoProgress} {
		if server.Supports(c) {
			if err := req.Capabilities.Set(c); err != nil {
				return nil, err
			}
		}
	}
	req.Wants = []plumbing.Hash{plumbing.NewHash(w.commit)}
	if w.history {
		return req, nil
	}
	if !server.Supports(capability.Shallow) {
		return req, nil // an old server: it sends the history, too
	}
	if err := req.Capabilities.Set(capability.Shallow); err != nil {
		return nil, err
	}
	req.Depth = packp.DepthCommits(1)
	if w.have != "" {
		// Without it a server that sends no history sends all files again.
		if server.Supports(capability.ThinPack) {
			if err := req.Capabilities.Set(capability.ThinPack); err != nil {
				return nil, err
			}
		}
		have := plumbing.NewHash(w.have)
		req.Haves, req.Shallows = []plumbing.Hash{have}, []plumbing.Hash{have}
	}
	return req, nil
}

func encodeRequest(req *packp.UploadPackRequest) ([]byte, error) {
	var b bytes.Buffer
	if err := req.UploadRequest.Encode(&b); err != nil {
		return nil, fmt.Errorf("ask for a pack: %w", err)
	}
	// No flush after the haves: over http it would end the conversation with their answer.
	if err := req.UploadHaves.Encode(&b, false); err != nil {
		return nil, fmt.Errorf("ask for a pack: %w", err)
	}
	err := pktline.NewEncoder(&b).Encodef("done\n")
	return b.Bytes(), err
}

// receive writes the pack of an answer to a file.
func receive(answer io.ReadCloser, req *packp.UploadPackRequest, pack io.Writer, said io.Writer, most int64) error {
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(answer); err != nil {
		if strings.Contains(err.Error(), "not our ref") || strings.Contains(err.Error(), "unadvertised object") {
			return failf(ReasonRefNotFound, "the server does not give the commit %s out", req.Wants[0])
		}
		return err
	}
	var r io.Reader = res
	if req.Capabilities.Supports(capability.Sideband64k) {
		d := sideband.NewDemuxer(sideband.Sideband64k, res)
		d.Progress = said
		r = d
	}
	_, err := io.Copy(pack, &limitReader{r, most})
	if errors.Is(err, errLimit) {
		return failf(ReasonTooLarge, "the server sent more than %d bytes", most)
	}
	return err
}

// givesOut tells whether a server lets a commit be asked for that no reference names.
func givesOut(adv *packp.AdvRefs, commit string) bool {
	if adv.Capabilities.Supports(capability.AllowReachableSHA1InWant) || adv.Capabilities.Supports("allow-any-sha1-in-want") {
		return true
	}
	return advertises(adv, commit)
}

func advertises(adv *packp.AdvRefs, commit string) bool {
	want := plumbing.NewHash(commit)
	if adv.Head != nil && *adv.Head == want {
		return true
	}
	for _, refs := range []map[string]plumbing.Hash{adv.References, adv.Peeled} {
		for _, h := range refs {
			if h == want {
				return true
			}
		}
	}
	return false
}

// branches are the commits of all branches, that of the named one first.
func branches(adv *packp.AdvRefs, first string) []string {
	var all []string
	for name, h := range adv.References {
		if b, ok := strings.CutPrefix(name, branchPrefix); ok && b != first {
			all = append(all, h.String())
		}
	}
	slices.Sort(all)
	if h, ok := adv.References[branchPrefix+first]; ok {
		all = append([]string{h.String()}, all...)
	}
	return slices.Compact(all)
}
