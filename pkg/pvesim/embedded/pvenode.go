package embedded

import "github.com/proximity-pve/proximity/pkg/pvesim"

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
	return node, credentials{
		Fingerprint: creds.Fingerprint, TokenID: creds.TokenID, TokenSecret: creds.TokenSecret,
		SSHUser: creds.SSHUser, SSHPrivateKeyPath: creds.SSHPrivateKeyPath, SSHHostKey: creds.SSHHostKey,
	}, nil
}
