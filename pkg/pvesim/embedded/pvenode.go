package embedded

import (
	"errors"

	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// newPVENode makes the simulated node on an engine.
func newPVENode(c nodeConfig) (pveNode, credentials, error) {
	node, err := pvesim.New(pvesim.Config{
		Dir: c.Dir, NodeName: nodeName, Engine: c.Engine, TemplateDir: c.TemplateDir, Log: c.Log,
		Uplink: uplinkBridge, UplinkAddress: nodeCIDR, UplinkGateway: routerIP, UplinkPort: uplinkPort,
	})
	if err != nil {
		return nil, credentials{}, err
	}
	creds := node.Credentials()
	served, ok := any(node).(pveNode)
	if !ok {
		return nil, credentials{}, errors.New("the simulated node can't serve yet")
	}
	return served, credentials{
		Fingerprint: creds.Fingerprint, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
		SSHUser: creds.SSHUser, SSHPrivateKeyPath: creds.SSHPrivateKeyPath, SSHHostKey: creds.SSHHostKey,
	}, nil
}
