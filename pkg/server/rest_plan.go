package server

import (
	"encoding/json"
	"net/http"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

const (
	// planCollection is the path segment of plans of a set, as applyCollection.
	planCollection = "plan"
	// subresourcePlan is what there is to do for an object that is there.
	subresourcePlan = "plan"
)

// planResult is one item of the answer to a plan.
type planResult struct {
	Kind        string          `json:"kind"`
	Namespace   string          `json:"namespace,omitempty"`
	Name        string          `json:"name"`
	Result      string          `json:"result"`
	Changes     []planChange    `json:"changes"`
	Steps       []planStep      `json:"steps"`
	Blocked     *planBlock      `json:"blocked,omitempty"`
	Notes       []string        `json:"notes,omitempty"`
	Observation planObservation `json:"observation"`
	Live        json.RawMessage `json:"live,omitempty"`
	Planned     json.RawMessage `json:"planned,omitempty"`
}

// planChange has values as JSON; one that is left out was or is not set.
type planChange struct {
	Path string          `json:"path"`
	Old  json.RawMessage `json:"old,omitempty"`
	New  json.RawMessage `json:"new,omitempty"`
}

type planStep struct {
	Action string `json:"action"`
	Text   string `json:"text"`
	Effect string `json:"effect"`
	By     string `json:"by,omitempty"`
	If     string `json:"if,omitempty"`
}

type planBlock struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type planObservation struct {
	State      string `json:"state"`
	At         string `json:"at,omitempty"`
	AgeSeconds *int32 `json:"ageSeconds,omitempty"`
}

type planResultList struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Items      []planResult `json:"items"`
}

// planSet is POST of documents: what applying them as a set would do.
func (s *rest) planSet(w http.ResponseWriter, r *http.Request, _ call) error {
	opts, err := applyOptions(r)
	if err != nil {
		return err
	}
	docs, held, err := s.readDocuments(w, r)
	if err != nil {
		return err
	}
	defer held.release()
	items := make([]planItem, len(docs))
	for i := range docs {
		items[i] = planItem{doc: &docs[i]}
	}
	return s.answerPlan(w, r, items, opts)
}

// planObject is GET of what there is to do for one object, or (?delete=1) for its deletion.
func (s *rest) planObject(w http.ResponseWriter, r *http.Request, c call) error {
	return s.answerPlan(w, r, []planItem{{key: c.key(), delete: isTrue(r, "delete")}}, apply.Options{})
}

func (s *rest) answerPlan(w http.ResponseWriter, r *http.Request, items []planItem, opts apply.Options) error {
	results, err := s.core.plan(r.Context(), items, opts)
	if err != nil {
		return err
	}
	list := planResultList{resource.APIVersion, "PlanResultList", make([]planResult, len(results))}
	size := 0
	for i, p := range results {
		if list.Items[i], err = p.json(); err != nil {
			return err
		}
		if size += len(list.Items[i].Live) + len(list.Items[i].Planned); size > MaxSendBytes {
			return apistatus.New(apistatus.RequestEntityTooLarge, "the plan has more than %d bytes: ask for it over gRPC, or in parts", MaxSendBytes)
		}
	}
	answer, err := marshal(list)
	if err != nil {
		return err
	}
	writeJSON(w, r, http.StatusOK, answer)
	return nil
}

// json is a result as REST answers it.
func (p planned) json() (planResult, error) {
	out := planResult{
		Kind: p.key.Kind, Namespace: p.key.Namespace, Name: p.key.Name, Result: p.result, Notes: p.plan.Notes,
		Changes: make([]planChange, len(p.changes)), Steps: make([]planStep, len(p.plan.Steps)),
	}
	for i, c := range p.changes {
		out.Changes[i] = planChange{c.Path, json.RawMessage(c.Old), json.RawMessage(c.New)}
	}
	for i, st := range p.plan.Steps {
		out.Steps[i] = planStep{st.Action, st.Description, st.Effect, st.By, st.If}
	}
	if p.plan.Blocked != "" {
		out.Blocked = &planBlock{p.plan.BlockedReason, p.plan.Blocked}
	}
	state, at, age := p.observation()
	out.Observation = planObservation{State: state, At: at}
	if at != "" {
		out.Observation.AgeSeconds = &age
	}
	live, next := p.shown()
	var err error
	if live != nil {
		if out.Live, err = resource.EncodeJSON(live); err != nil {
			return out, err
		}
	}
	if next != nil {
		out.Planned, err = resource.EncodeJSON(next)
	}
	return out, err
}
