package daemon

import (
	"fmt"

	"github.com/spf13/pflag"
)

// Flags declares the daemon's flags. The function that it returns is called after parsing:
// it reads the configuration file, if there is one, and lets flags that were given win.
func Flags(fs *pflag.FlagSet) func(configFile string) (Config, error) {
	var f Config
	fs.StringVar(&f.DataDir, "data-dir", "", "directory for database, keys and the embedded node (default /var/lib/proximity, or ./.proximity with --embedded)")
	fs.StringVar(&f.Listen, "listen", "", "address of the REST API (default "+DefaultListen+"; port 0 takes any, then also for gRPC and the forwarder)")
	fs.StringVar(&f.GRPCListen, "grpc-listen", "", "address of the gRPC API (default "+DefaultGRPCListen+")")
	fs.StringVar(&f.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	fs.BoolVar(&f.Embedded, "embedded", false, "run with an embedded node instead of a real Proxmox VE")
	fs.StringVar(&f.Engine, "engine", "auto", "guests of the embedded node: auto, lxc or mem")
	fs.BoolVar(&f.KeepNode, "keep-node", false, "leave the embedded node running when the daemon stops")
	fs.StringVar(&f.Forward, "forward", "", "loopback address from which HTTP reaches the embedded node's appliance (default "+DefaultForward+", or any free port)")
	fs.StringVar(&f.ForwardTLS, "forward-tls", "", "likewise HTTPS (default "+DefaultForwardTLS+")")
	return func(configFile string) (Config, error) {
		if fs.NArg() > 0 {
			return f, fmt.Errorf("unexpected argument %q; see --help", fs.Arg(0))
		}
		cfg := f
		if configFile == "" {
			return cfg, nil
		}
		cfg.DataDir, cfg.Listen, cfg.GRPCListen, cfg.LogLevel = "", "", "", ""
		if err := LoadConfig(configFile, &cfg); err != nil {
			return cfg, err
		}
		for name, to := range map[string][2]*string{
			"data-dir": {&cfg.DataDir, &f.DataDir}, "listen": {&cfg.Listen, &f.Listen},
			"grpc-listen": {&cfg.GRPCListen, &f.GRPCListen}, "log-level": {&cfg.LogLevel, &f.LogLevel},
		} {
			if fs.Changed(name) {
				*to[0] = *to[1]
			}
		}
		return cfg, nil
	}
}
