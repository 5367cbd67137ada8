package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// startTimeout bounds the time from starting the process to a node that answers.
	// Booting guests is not part of it beyond bootGrace.
	startTimeout = 60 * time.Second
	// maxLogSize is the size above which node.log is put aside at a start.
	maxLogSize = 8 << 20
	// maxLogTail bounds how much of node.log is quoted when a start fails.
	maxLogTail = 2 << 10
)

// attachTimeout is how long a process that should be the node may take to answer before
// it is taken for hung. Tests shorten it.
var attachTimeout = 10 * time.Second

// Ensure returns the running node of a data directory, or starts it. A node that runs
// is taken as it is; Options then only matter where they contradict it (the engine). Two
// calls at the same time, from one process or several, get the same node.
func Ensure(ctx context.Context, o Options) (*Handle, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	unlock, err := lockNode(ctx, o.DataDir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	last, err := readState(o.DataDir)
	if err != nil {
		return nil, err
	}
	if h, err := attach(ctx, o, last); h != nil || err != nil {
		return h, err
	}
	// What the last run left behind if it was not shut down.
	if err := cleanUp(o.DataDir); err != nil {
		return nil, err
	}
	reason := ""
	if o.Engine, reason, err = chooseEngine(o, last); err != nil {
		return nil, err
	}
	if reason != "" {
		o.Log.Warn("guests are simulated in memory", "reason", reason)
	}
	return start(ctx, o, last, reason)
}

// attach finds the node that state describes. It returns nothing when there is none. A
// process that is the node but does not answer is killed: nobody could use it or stop it
// any more, and a second one beside it would destroy the guests' disks.
func attach(ctx context.Context, o Options, last state) (*Handle, error) {
	if !processAlive(last.PID, last.Started) {
		return nil, nil
	}
	h := dialControl(o.DataDir)
	patience, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	for {
		err := h.refresh(patience)
		if err == nil && h.info.Instance == last.Instance {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if patience.Err() != nil {
			o.Log.Warn("the embedded node does not answer, killing it", "pid", last.PID, "error", err)
			killProcess(last.PID, last.Started)
			return nil, waitGone(ctx, last.PID, last.Started)
		}
		time.Sleep(pollPause)
	}
	if o.Engine != EngineAuto && o.Engine != h.info.Engine {
		return nil, fmt.Errorf("the embedded node runs with engine %s, not %s: shut it down first", h.info.Engine, o.Engine)
	}
	h.info.PID, h.attached = last.PID, true
	o.Log.Info("attached to the running embedded node", "pid", last.PID, "engine", h.info.Engine)
	return h, nil
}

// chooseEngine decides between lxc and mem. Guests of the one don't exist for the other,
// so a data directory keeps its engine.
func chooseEngine(o Options, last state) (name, reason string, err error) {
	name, reason = Available(o.CacheDir)
	if name == EngineLXC {
		if why := unusable(o); why != "" {
			name, reason = EngineMem, why
		}
	}
	wanted := o.Engine
	if wanted == EngineAuto && last.Engine != "" {
		wanted = last.Engine
	}
	switch {
	case wanted == EngineLXC && name != EngineLXC:
		return "", "", fmt.Errorf("LXC guests are not possible here: %s", reason)
	case wanted != EngineAuto && last.Engine != "" && wanted != last.Engine:
		return "", "", fmt.Errorf("the guests in %s were made with engine %s: remove that directory to use %s",
			nodeDir(o.DataDir), last.Engine, wanted)
	case wanted == EngineMem && name == EngineLXC:
		return EngineMem, "the data directory or the configuration asks for engine mem", nil
	}
	return name, reason, nil
}

// unusable looks for paths that the node's own /run would hide.
func unusable(o Options) string {
	for _, path := range []string{o.DataDir, o.CacheDir, o.Executable} {
		if real, err := realPath(path); err == nil && below(real, "/run") {
			return fmt.Sprintf("%s is below /run, which the node replaces by its own", path)
		}
	}
	return ""
}

// start runs a new node and waits until it serves. If anything fails, nothing is left.
func start(ctx context.Context, o Options, last state, reason string) (_ *Handle, err error) {
	socks, err := openSockets(o, last.Ports)
	if err != nil {
		return nil, err
	}
	defer socks.close()
	next := state{Instance: newInstance(), Engine: o.Engine, Ports: socks.ports()}

	logFile, err := openLog(o.DataDir)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	logStart, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open node log: %w", err)
	}
	ready, childReady, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	defer ready.Close()

	files, err := socks.files()
	if err != nil {
		_ = childReady.Close()
		return nil, err
	}
	files = append([]*os.File{childReady}, files...)
	next.PID, err = spawn(o, childArgs{
		Role: firstRole(o.Engine), DataDir: o.DataDir, CacheDir: o.CacheDir, Engine: o.Engine,
		Instance: next.Instance, Reason: reason, HostNetNS: ownNetNS(),
	}, logFile, files)
	closeAll(files)
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	next.Started = processStart(next.PID)
	defer func() {
		if err != nil {
			killProcess(next.PID, next.Started)
			err = errors.Join(err, waitGone(context.WithoutCancel(ctx), next.PID, next.Started), cleanUp(o.DataDir))
		}
	}()
	if err := writeState(o.DataDir, next); err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, ready); err != nil {
		return nil, fmt.Errorf("start node: %w%s", err, logTail(o.DataDir, logStart))
	}
	h := dialControl(o.DataDir)
	if err := h.refresh(ctx); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	h.info.PID = next.PID
	o.Log.Info("embedded node started", "pid", next.PID, "engine", o.Engine, "api", h.info.APIURL)
	return h, nil
}

// readiness is the one line that a starting node writes to its parent.
type readiness struct {
	Error string `json:"error,omitempty"`
}

// awaitReady reads the child's line. The end of the pipe without one means that it died.
func awaitReady(ctx context.Context, pipe *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(pipe, maxControlBody)).ReadBytes('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return errors.New("its process ended at once")
	}
	var r readiness
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("its answer is not understood: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

// openLog opens node.log for appending, putting a large one aside.
func openLog(dataDir string) (*os.File, error) {
	name := filepath.Join(nodeDir(dataDir), "node.log")
	if info, err := os.Stat(name); err == nil && info.Size() > maxLogSize {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("rotate node log: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open node log: %w", err)
	}
	return f, nil
}

// logTail quotes what a failed start wrote.
func logTail(dataDir string, from int64) string {
	f, err := os.Open(filepath.Join(nodeDir(dataDir), "node.log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size()-from > maxLogTail {
		from = info.Size() - maxLogTail
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, from, maxLogTail))
	if len(text) == 0 {
		return ""
	}
	return "; its log ends with:\n" + strings.TrimSpace(string(text))
}

// cleanUp removes what a node that is gone left outside its namespaces.
func cleanUp(dataDir string) error {
	path, done, err := socketPath(nodeDir(dataDir))
	if err == nil {
		err = os.Remove(path)
		done()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove control socket: %w", err)
	}
	if err := removeGroups(dataDir); err != nil {
		return err
	}
	s, err := readState(dataDir)
	if err != nil || s.PID == 0 {
		return err
	}
	s.PID, s.Started = 0, 0
	return writeState(dataDir, s)
}

// Destroy removes the node of a data directory and everything that it kept: its
// processes are killed, not shut down. There is no error if there is no node.
func Destroy(ctx context.Context, dataDir string) error {
	real, err := realPath(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find data directory: %w", err)
	}
	dir := nodeDir(real)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lockNode(ctx, real)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := readState(real)
	if err != nil {
		return err
	}
	killProcess(s.PID, s.Started)
	if err := waitGone(ctx, s.PID, s.Started); err != nil {
		return fmt.Errorf("stop node: %w", err)
	}
	if err := cleanUp(real); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove node: %w", err)
	}
	return nil
}
