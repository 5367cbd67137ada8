package pvesim

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// frame is one thing that was sent or received over a recorded websocket.
type frame struct {
	Send string `json:"send"`
	Recv string `json:"recv"`
}

// console is the last one that was asked for in the recording.
type console struct {
	rec                      record
	user, port, ticket, upid string
}

// opened keeps what a termproxy answer told.
func (p *replay) opened(rec record, got answer) {
	var ours, theirs struct {
		Data struct{ User, Port, Ticket, UPID string } `json:"data"`
	}
	raw, _ := json.Marshal(rec.Response.Body)
	if json.Unmarshal([]byte(got.raw), &ours) != nil || json.Unmarshal(raw, &theirs) != nil {
		return // compare says so
	}
	p.translate[theirs.Data.UPID] = ours.Data.UPID
	p.console = console{rec, ours.Data.User, ours.Data.Port, ours.Data.Ticket, ours.Data.UPID}
}

// settle is how long a recorded silence is listened to.
const settle = 300 * time.Millisecond

// playConsole does what the recorded client did and compares what the screen showed.
func (p *replay) playConsole(rec record) string {
	header := &http.Request{Header: http.Header{}}
	p.identify(p.console.rec, header)
	u := strings.Replace(strings.TrimSuffix(p.base, "/api2/json"), "https:", "wss:", 1) + rec.Request.Path +
		"?port=" + p.console.port + "&vncticket=" + url.QueryEscape(p.console.ticket)
	conn, resp, err := websocket.Dial(p.t.Context(), u, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, //nolint:gosec // a test
		HTTPHeader:   header.Header,
		Subprotocols: []string{"binary"},
	})
	if err != nil {
		return err.Error()
	}
	defer conn.CloseNow() //nolint:errcheck // it may be closed already
	if resp.StatusCode != rec.Response.Status {
		return fmt.Sprintf("status %d", resp.StatusCode)
	}
	for _, f := range rec.Websocket {
		if f.Send != "" {
			text := strings.ReplaceAll(f.Send, "<ticket>", p.console.ticket)
			text = strings.ReplaceAll(text, `\n`, "\n") // the recording's own spelling
			if conn.Write(p.t.Context(), websocket.MessageBinary, []byte(text)) != nil {
				return "" // the recorded one was closed, too, which its next frame says
			}
			continue
		}
		if got := listen(p.t.Context(), conn, f.Recv); got != f.Recv {
			return fmt.Sprintf("the screen shows %q, want %q", got, f.Recv)
		}
	}
	return ""
}

// listen reads until the text is complete, the connection ends ("<EOF>") or stays silent.
func listen(ctx context.Context, conn *websocket.Conn, want string) string {
	wait := 5 * time.Second
	if want == "" {
		wait = settle
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	got := ""
	for want == "" || got != want {
		_, b, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() == nil && want != "" {
				got += "<EOF>"
			}
			return got
		}
		got += string(b)
	}
	return got
}

// varies matches what is made up: addresses of NICs and ports of consoles.
var varies = regexp.MustCompile(`BC:24:11(:[0-9A-F]{2}){3}|termproxy 59\d\d`)

func normal(s string) string { return varies.ReplaceAllString(s, "*") }
