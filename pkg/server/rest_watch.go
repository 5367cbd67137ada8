package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// watch streams events: JSON lines of {"type","object"} as Kubernetes does, or
// server-sent events when the caller accepts text/event-stream. As in Kubernetes,
// bookmarks are sent to those only who ask with ?allowWatchBookmarks=1, and an error
// that ends the stream is its last event, of type ERROR, with a Status.
func (s *rest) watch(w http.ResponseWriter, r *http.Request, c call) error {
	sel, err := selectionOf(r, c)
	if err != nil {
		return err
	}
	timeout, err := watchTimeout(r)
	if err != nil {
		return err
	}
	out := &eventWriter{w: w, rc: http.NewResponseController(w), kind: c.kind, bookmarks: isTrue(r, "allowWatchBookmarks")}
	out.sse = wantsEvents(r)
	events, err := s.core.watch(r.Context(), c.kind.Name, sel, watchFrom(r))
	if err != nil {
		return err
	}
	defer events.close()
	defer s.metrics.watching(auth.REST)()
	if err := out.begin(); err != nil {
		return err
	}
	return s.copyEvents(r, out, events, timeout)
}

// wantsEvents tells whether the caller wants server-sent events.
func wantsEvents(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), typeEvents) }

// watchFrom is the revision after which changes are wanted; "": begin with what is there.
func watchFrom(r *http.Request) string {
	from := r.URL.Query().Get("resourceVersion")
	if id := r.Header.Get("Last-Event-ID"); id != "" && wantsEvents(r) { // a browser that reconnects
		from = id
	}
	if from == "0" { // Kubernetes' way to say: any, begin with the objects there are
		return ""
	}
	return from
}

// copyEvents writes events until the watch, the caller or the server ends.
func (s *rest) copyEvents(r *http.Request, out *eventWriter, events *watch, timeout time.Duration) error {
	var end <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		end = timer.C
	}
	alive := time.NewTicker(PingInterval)
	defer alive.Stop()
	for {
		select {
		case <-end:
			return nil
		case <-alive.C:
			if err := out.keepAlive(); err != nil {
				return err
			}
		case ev, ok := <-events.events():
			if !ok {
				if err := events.err(); err != nil {
					return out.failed(s.gate.status(r.Context(), err))
				}
				return nil
			}
			if ev, keep := events.translate(ev); keep {
				if err := out.event(events, ev); err != nil {
					return err
				}
			}
			if len(events.events()) > 0 {
				continue // what is waiting goes out with the same flush
			}
			if err := out.flush(); err != nil {
				return err
			}
		}
	}
}

const typeEvents = "text/event-stream"

// watchTimeout reads ?timeoutSeconds=: how long the caller wants to watch, 0: as long as
// it goes.
func watchTimeout(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("timeoutSeconds")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, apistatus.New(apistatus.BadRequest, "timeoutSeconds %.20q: allowed is a positive number", text)
	}
	return time.Duration(n) * time.Second, nil
}

// eventWriter writes events in one of the two formats.
type eventWriter struct {
	w         http.ResponseWriter
	rc        *http.ResponseController
	kind      *resource.Kind
	sse       bool
	bookmarks bool
	dirty     bool // written and not flushed
}

// begin sends the headers, so that the caller knows that the watch stands.
func (o *eventWriter) begin() error {
	contentType := typeJSON
	if o.sse {
		contentType = typeEvents
	}
	o.w.Header().Set("Content-Type", contentType)
	o.w.WriteHeader(http.StatusOK)
	o.dirty = true
	return o.flush()
}

func (o *eventWriter) event(events *watch, ev store.Event) error {
	if ev.Type == store.Bookmark && !o.bookmarks {
		return nil
	}
	form, encode := asLine, o.line
	if o.sse {
		form, encode = asServerSent, o.serverSent
	}
	data, err := events.encode(ev, form, encode)
	if err != nil {
		return err
	}
	return o.send(data)
}

// line is an event as a line of JSON.
func (o *eventWriter) line(ev store.Event) ([]byte, error) {
	object, err := o.object(ev)
	return jsonLine(string(ev.Type), object), err
}

// serverSent is an event for those who understand server-sent ones.
func (o *eventWriter) serverSent(ev store.Event) ([]byte, error) {
	object, err := o.object(ev)
	return serverSent(string(ev.Type), object, strconv.FormatUint(ev.Revision, 10)), err
}

// object is the JSON of an event's object. A bookmark has none but the revision.
func (o *eventWriter) object(ev store.Event) ([]byte, error) {
	if ev.Type == store.Bookmark {
		return fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d"}}`, resource.APIVersion, o.kind.Name, ev.Revision), nil
	}
	return resource.EncodeJSON(ev.Object)
}

// failed writes the last event of a watch that broke.
func (o *eventWriter) failed(st *v1alpha1.Status) error {
	data := jsonLine("ERROR", apistatus.JSON(st))
	if o.sse {
		data = serverSent("ERROR", apistatus.JSON(st), "")
	}
	if err := o.send(data); err != nil {
		return err
	}
	return o.flush()
}

// keepAlive writes a comment, which only server-sent events have: it finds out whether
// the caller is still there, and keeps proxies from closing the stream.
func (o *eventWriter) keepAlive() error {
	if !o.sse {
		return nil
	}
	if err := o.send([]byte(": alive\n\n")); err != nil {
		return err
	}
	return o.flush()
}

func jsonLine(typ string, object []byte) []byte {
	return fmt.Appendf(nil, `{"type":%q,"object":%s}`+"\n", typ, object)
}

func serverSent(typ string, object []byte, id string) []byte {
	var data []byte
	if id != "" {
		data = fmt.Appendf(data, "id: %s\n", id)
	}
	data = fmt.Appendf(data, "event: %s\ndata: ", typ)
	return append(append(data, jsonLine(typ, object)...), '\n')
}

// send writes into net/http's buffer, from there to the caller when it is full.
func (o *eventWriter) send(data []byte) error {
	o.dirty = true
	return o.within(func() error {
		_, err := o.w.Write(data)
		return err
	})
}

// flush brings to the caller what was written.
func (o *eventWriter) flush() error {
	if !o.dirty {
		return nil
	}
	o.dirty = false
	return o.within(o.rc.Flush)
}

// within gives a write StallTimeout: a caller that takes nothing for that long is cut
// off. The deadline must not outlast the write, for in HTTP/2 it resets the stream
// whether or not anything is being written.
func (o *eventWriter) within(write func() error) error {
	if err := o.rc.SetWriteDeadline(time.Now().Add(StallTimeout)); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	return o.rc.SetWriteDeadline(time.Time{})
}
