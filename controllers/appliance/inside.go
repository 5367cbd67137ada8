package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/guest"
)

// inside runs the agent in the guest.
type inside struct {
	runner guest.Runner
	target guest.Target
}

// observe returns nil without an error when the guest has no usable agent.
func (b inside) observe(ctx context.Context, bundle appliance.Bundle) (*appliance.Observation, error) {
	res, err := b.run(ctx, nil, appliance.AgentPath, "observe", bundle.Hash)
	if err != nil {
		return nil, err
	}
	o, err := appliance.ParseObservation(res.Stdout)
	if errors.Is(err, appliance.ErrProtocol) || err != nil && noAgent(res) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agent's answer (exit code %d: %s): %w", res.ExitCode, common.LastLines(string(res.Stderr), 2), err)
	}
	return &o, nil
}

// noAgent: sh could not open the script.
func noAgent(res guest.Result) bool {
	return res.ExitCode == 127 || res.ExitCode == 2 || bytes.Contains(res.Stderr, []byte("No such file"))
}

func (b inside) apply(ctx context.Context, bundle appliance.Bundle) (guest.Result, error) {
	return b.run(ctx, &bundle, appliance.AgentPath, "apply", "-")
}

// stage unpacks the bundle below its stage directory; nothing of it is live then.
func (b inside) stage(ctx context.Context, bundle appliance.Bundle) error {
	res, err := b.runner.Run(ctx, b.target, guest.Command{Argv: []string{"tar", "-x", "-o", "-C", "/", "-f", "-"}, Stdin: appliance.Stage(bundle)})
	if err != nil {
		return err
	}
	if res.ExitCode != 0 {
		return fmt.Errorf("unpack in guest %s: exit code %d: %s", b.target, res.ExitCode, common.LastLines(string(res.Stderr), 3))
	}
	return nil
}

func (b inside) staged(ctx context.Context, bundle appliance.Bundle, args ...string) (guest.Result, error) {
	return b.run(ctx, nil, append([]string{appliance.StageDir(bundle) + "/agent"}, args...)...)
}

func (b inside) run(ctx context.Context, stdin *appliance.Bundle, argv ...string) (guest.Result, error) {
	c := guest.Command{Argv: append([]string{"/bin/sh"}, argv...), MaxOutput: appliance.MaxOutputBytes}
	if stdin != nil {
		c.Stdin = appliance.Stage(*stdin)
	}
	return b.runner.Run(ctx, b.target, c)
}
