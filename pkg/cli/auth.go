package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/privatefile"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func (a *app) whoamiCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Show who you are for the daemon, and what roles you have",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.whoami(cmd.Context(), output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`format`: json")
	return cmd
}

func (a *app) whoami(ctx context.Context, output string) error {
	if output != "" && output != formatJSON {
		return usagef("-o %q: allowed is json", output)
	}
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	me, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.WhoAmI, &v1alpha1.WhoAmIRequest{})
	if err != nil {
		return err
	}
	if output == formatJSON {
		type role struct {
			Role       string   `json:"role"`
			Namespaces []string `json:"namespaces"`
		}
		roles := []role{}
		for _, r := range me.GetRoles() {
			roles = append(roles, role{r.GetRole(), r.GetNamespaces()})
		}
		return json.NewEncoder(a.Out).Encode(struct {
			Type       string   `json:"type"`
			Name       string   `json:"name"`
			Groups     []string `json:"groups,omitempty"`
			Credential string   `json:"credential,omitempty"`
			Limited    bool     `json:"limited,omitempty"`
			Roles      []role   `json:"roles"`
		}{me.GetType(), me.GetName(), me.GetGroups(), me.GetCredential(), me.GetLimited(), roles})
	}
	fmt.Fprintf(a.Out, "%s (%s)\n", term.Clean(me.GetName()), me.GetType())
	if len(me.GetGroups()) > 0 {
		fmt.Fprintf(a.Out, "groups: %s\n", strings.Join(me.GetGroups(), ", "))
	}
	if me.GetLimited() {
		fmt.Fprintln(a.Out, "by a token that is good for a part only of what the user may do")
	}
	for _, r := range me.GetRoles() {
		where := strings.Join(r.GetNamespaces(), ", ")
		if where == "*" {
			where = "all namespaces"
		}
		fmt.Fprintf(a.Out, "role %s in %s\n", r.GetRole(), where)
	}
	if len(me.GetRoles()) == 0 {
		fmt.Fprintln(a.Out, "no role: an administrator gives one by a RoleBinding")
	}
	return nil
}

func (a *app) authCommand() *cobra.Command {
	auth := &cobra.Command{Use: "auth", Short: "Ask what you may do, and manage your tokens and sessions", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var everywhere bool
	canI := &cobra.Command{
		Use:   "can-i VERB KIND",
		Short: "Ask whether you may do something",
		Long: "Ask whether you may do something, in the namespace of -n. The answer is yes, or no with exit\n" +
			"code 1. Verbs: get, list, watch, create, update, update-status, apply, delete; console, exec,\n" +
			"prune, secrets-read, restore, adopt, weaken, bind, escalate. What is no kind: audit, database,\n" +
			"metrics, discovery, health.",
		Example: "  proxctl auth can-i delete apps -n shop\n  proxctl auth can-i list apps -A",
		Args:    exactly(2, "a verb and a kind"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.canI(cmd.Context(), args[0], args[1], everywhere)
		},
	}
	canI.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "in all namespaces at once")
	token := &cobra.Command{Use: "token", Short: "Make, list and revoke API tokens and sessions of your own", Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	create := a.createTokenCommand()
	create.Use, create.Example = "create", strings.ReplaceAll(create.Example, "create token", "auth token create")
	list := &cobra.Command{Use: "list", Short: "List your tokens and sessions", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listTokens(cmd.Context()) }}
	revoke := &cobra.Command{Use: "revoke NAME...", Short: "Make tokens or sessions worthless at once", Args: atLeast(1, "the name of a token or session"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.revoke(cmd.Context(), args) }}
	token.AddCommand(create, list, revoke)
	auth.AddCommand(canI, token, a.certificateCommand())
	return auth
}

func (a *app) canI(ctx context.Context, verb, kind string, everywhere bool) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	req := &v1alpha1.CanIRequest{Verb: verb, Kind: kind, Namespace: conn.namespace}
	if k, err := a.registry.Lookup(kind); err == nil {
		req.Kind = k.Name
		if !k.Namespaced {
			req.Namespace = ""
		}
	} else if strings.ToLower(kind) == kind {
		req.Namespace = ""
	}
	if everywhere {
		req.Namespace = ""
	}
	answer, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.CanI, req)
	if err != nil {
		return err
	}
	if !answer.GetAllowed() {
		fmt.Fprintln(a.Out, "no")
		return fmt.Errorf("%s", answer.GetReason())
	}
	fmt.Fprintln(a.Out, "yes")
	return nil
}

type tokenOptions struct {
	description string
	life        time.Duration
	verbs       []string
	kinds       []string
	namespaces  []string
}

func (a *app) createTokenCommand() *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make an API token for a program",
		Long: "Make an API token of the user who is logged in. It is printed once and kept nowhere. --verb and\n" +
			"--kind limit it to a part of what the user may do.",
		Example: "  proxctl create token --description ci --expires 720h --verb get,list,apply --kind App,Vhost --in shop",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.createToken(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.description, "description", "", "what it is for")
	f.DurationVar(&o.life, "expires", 0, "`time` that it is good for, 1m to 8784h (default 2160h, 90 days)")
	f.StringSliceVar(&o.verbs, "verb", nil, "`verbs` that it is limited to")
	f.StringSliceVar(&o.kinds, "kind", nil, "`kinds` that it is limited to")
	f.StringSliceVar(&o.namespaces, "in", nil, "`namespaces` that it is limited to")
	return cmd
}

func (a *app) createToken(ctx context.Context, o tokenOptions) error {
	req := &v1alpha1.CreateTokenRequest{Description: o.description, Seconds: int32(min(o.life/time.Second, 1<<30))}
	if len(o.verbs)+len(o.kinds)+len(o.namespaces) > 0 {
		rule := &v1alpha1.PolicyRule{Verbs: o.verbs, Namespaces: o.namespaces}
		if len(rule.Verbs) == 0 {
			rule.Verbs = []string{"*"}
		}
		for _, name := range o.kinds {
			if k, err := a.registry.Lookup(name); err == nil {
				name = k.Name
			}
			rule.Kinds = append(rule.Kinds, name)
		}
		if len(rule.Kinds) == 0 {
			rule.Kinds = []string{"*"}
		}
		req.Rules = append(req.Rules, rule)
	}
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	made, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.CreateToken, req)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, made.GetToken())
	fmt.Fprintf(a.Err, "token %s, good until %s; it is not shown again\n", made.GetName(), made.GetExpires())
	return nil
}

func (a *app) listTokens(ctx context.Context) error {
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	all, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.ListCredentials, &v1alpha1.ListCredentialsRequest{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, t := range all.GetTokens() {
		rows = append(rows, []string{t.GetMetadata().GetName(), "token", t.GetSpec().GetExpires(), t.GetStatus().GetLastUsed(), t.GetStatus().GetLastPeer(), t.GetSpec().GetDescription()})
	}
	for _, s := range all.GetSessions() {
		rows = append(rows, []string{s.GetMetadata().GetName(), "session", s.GetSpec().GetExpires(), s.GetSpec().GetRefreshed(), s.GetSpec().GetPeer(), s.GetSpec().GetClient()})
	}
	for _, row := range rows {
		for i := range row {
			row[i] = cellOr(term.Clean(row[i]))
		}
	}
	return writeTable(a.Out, []string{"NAME", "TYPE", "ENDS", "LAST-USED", "FROM", "DESCRIPTION"}, rows)
}

func (a *app) revoke(ctx context.Context, names []string) error {
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, name := range names {
		if _, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.Revoke, &v1alpha1.RevokeRequest{Name: name}); err != nil {
			return err
		}
		fmt.Fprintf(a.Out, "%s revoked\n", name)
	}
	return nil
}

func (a *app) createUserCommand() *cobra.Command {
	var groups []string
	var display string
	cmd := &cobra.Command{
		Use:   "user NAME",
		Short: "Create a user who logs in with a password",
		Long: "Create a user who logs in with a password, which is asked for, or read from the standard input.\n" +
			"The user may do nothing until a RoleBinding names it or one of its groups.",
		Example: "  proxctl create user alice --group developers",
		Args:    exactly(1, "the name of the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.createUser(cmd.Context(), args[0], display, groups)
		},
	}
	cmd.Flags().StringSliceVar(&groups, "group", nil, "`groups` of the user")
	cmd.Flags().StringVar(&display, "display-name", "", "`name` to show")
	return cmd
}

func (a *app) createUser(ctx context.Context, name, display string, groups []string) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	user := &v1alpha1.User{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("User"), Metadata: &v1alpha1.ObjectMeta{Name: name},
		Spec: &v1alpha1.UserSpec{Groups: groups}}
	if display != "" {
		user.Spec.DisplayName = &display
	}
	if _, err := conn.Create(ctx, user); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "user/%s created\n", name)
	if err := a.setPassword(ctx, conn, a.prompter(), name); err != nil {
		return fmt.Errorf("the user has no password yet, `proxctl passwd %s` sets one: %w", name, err)
	}
	return nil
}

func (a *app) certificateCommand() *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "certificate NAME",
		Short: "Make a client's certificate that is shown instead of a token",
		Long: "Make a key in NAME.key and a certificate of the user who is logged in in NAME.crt. Programs show\n" +
			"it to the gRPC API instead of a token: in a context, certificate and key name the two files. It is\n" +
			"listed and revoked like a session. The key never leaves this machine.",
		Example: "  proxctl auth certificate ci --expires 720h",
		Args:    exactly(1, "the NAME of the two files"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.certificate(cmd.Context(), args[0], life) },
	}
	cmd.Flags().DurationVar(&life, "expires", 0, "`time` that it is good for, 1m to 8784h (default 2160h, 90 days)")
	return cmd
}

func (a *app) certificate(ctx context.Context, name string, life time.Duration) error {
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	resp, err := client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.IssueCertificate, &v1alpha1.IssueCertificateRequest{
		Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), Seconds: int32(min(life/time.Second, 1<<30)),
	})
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := privatefile.Create(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), privatefile.PrivateMode); err != nil {
		return err
	}
	if err := privatefile.Replace(name+".crt", []byte(resp.GetCertificate()), privatefile.PublicMode); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%s.crt and %s.key made; `proxctl auth token revoke %s` makes them worthless\n", name, name, resp.GetName())
	return nil
}
