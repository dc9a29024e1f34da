package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// contextFile is the content of the file of named contexts. The file contains no secrets; for each secret it names a source: an environment
// variable, a file or a command.
type contextFile struct {
	Current  string                   `yaml:"current,omitempty" json:"current"`
	Contexts map[string]serverContext `yaml:"contexts" json:"contexts"`
}

// serverContext is the address of a server with the sources of the caller's credentials. Each YAML field has the name of the flag that it
// sets; a typed flag or an environment variable overrides the field.
type serverContext struct {
	Server      string `yaml:"server,omitempty" json:"server,omitempty" placeholder:"URL"`
	AdminServer string `yaml:"admin-server,omitempty" json:"admin_server,omitempty" placeholder:"URL"`
	ScanServer  string `yaml:"scan-server,omitempty" json:"scan_server,omitempty" placeholder:"URL"`
	Data        string `yaml:"data,omitempty" json:"data,omitempty" placeholder:"DIR"`
	CAFile      string `yaml:"ca-file,omitempty" json:"ca_file,omitempty" name:"ca-file" placeholder:"FILE"`
	AppID       string `yaml:"appid,omitempty" json:"appid,omitempty" name:"appid" placeholder:"APPID"`
	Secret      string `yaml:"secret,omitempty" json:"secret,omitempty" placeholder:"SOURCE"`
	AdminToken  string `yaml:"admin-token,omitempty" json:"admin_token,omitempty" placeholder:"SOURCE"`
	Key         string `yaml:"key,omitempty" json:"key,omitempty" placeholder:"SOURCE"`
	// Production marks a server for which every destructive action must be confirmed with the name of the context.
	Production bool `yaml:"production,omitempty" json:"production" kong:"-"`
}

// addressFlags lists the flags that locate a server; secretFlags lists the secret flags, for which a context names a source.
var (
	addressFlags = []string{"server", "admin-server", "scan-server", "data"}
	secretFlags  = []string{"secret", "admin-token", "key"}
)

// values returns the fields that set flags, keyed by flag name.
func (c serverContext) values() map[string]string {
	all := map[string]string{}
	for field, v := range reflect.ValueOf(c).Fields() {
		if v.Kind() == reflect.String {
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			all[name] = v.String()
		}
	}
	return all
}

// contextPath returns the path of the file of named contexts.
func contextPath() (string, error) {
	if path := os.Getenv("QRJUMP_CONTEXTS"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fault("context.looking_for_the_file_of", err)
	}
	return filepath.Join(dir, "qrjump", "contexts.yaml"), nil
}

// readContexts reads the file of named contexts; if the file does not exist, the result is empty.
func readContexts() (file contextFile, path string, err error) {
	file.Contexts = map[string]serverContext{} // JSON output has an object, not null
	if path, err = contextPath(); err != nil {
		if os.Getenv("QRJUMP_CONTEXT") == "" {
			return file, "", nil // A system service may have no home directory.
		}
		return file, "", err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, path, nil
	}
	if err == nil {
		if err = safeyaml.Check(text); err == nil {
			err = yaml.UnmarshalWithOptions(text, &file, yaml.Strict())
		}
		if errors.Is(err, io.EOF) {
			err = nil // empty
		}
		if err != nil {
			return file, path, yamlFault(path, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Contexts)) {
		if err == nil {
			err = file.Contexts[name].check(path + ": context " + name)
		}
	}
	return file, path, err
}

// check returns an error if a secret field of a context names no source, because the field may then contain the secret itself.
func (c serverContext) check(subject string) error {
	values := c.values()
	for _, name := range secretFlags {
		kind, rest, _ := strings.Cut(values[name], ":")
		if known := kind == "env" || kind == "file" || kind == "command"; values[name] != "" && (!known || strings.TrimSpace(rest) == "") {
			return misused("context.location_of_secret", subject, name)
		}
	}
	return nil
}

// get returns a context by its name.
func (f contextFile) get(name, path string) (serverContext, error) {
	c, ok := f.Contexts[name]
	if !ok {
		return c, absent(fault("context.has_no_context_see_qrjump", path, name, didYouMean(name, slices.Sorted(maps.Keys(f.Contexts))...)))
	}
	return c, nil
}

// write replaces the context file atomically.
func (f contextFile) write(path string) error {
	text, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Replace(path, text, 0o600)
}

// contextResolver sets flags from the context in use: the context that --context names, else the current context. A context's secrets are
// only for the context's addresses, so the current context is ignored if the user gives a server address.
type contextResolver struct {
	asked bool
	name  string
	path  string
	used  *serverContext
	typed bool // --context was given on the command line.
}

// Validate implements kong.Resolver.
func (*contextResolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (r *contextResolver) Resolve(chosen *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if parent.Node() == nil || !slices.ContainsFunc(parent.Flags, func(f *kong.Flag) bool { return f.Name == "context" }) {
		return nil, nil
	}
	if !r.asked {
		r.asked = true
		if err := r.choose(chosen, parent.Flags); err != nil {
			return nil, exitError{err, exitOf(err)} // err is about the context, not about the flag, so its exit code is kept
		}
	}
	if r.used == nil || isSet(chosen, flag) {
		return nil, nil
	}
	value := r.used.values()[flag.Name]
	if value == "" {
		return nil, nil
	}
	if slices.Contains(secretFlags, flag.Name) {
		secret, err := readSecret(value, tr("context.context", r.path, r.name, flag.Name))
		if err != nil {
			return nil, exitError{err, exitOf(err)}
		}
		return secret, nil
	}
	return value, nil
}

// choose loads the context in use.
func (r *contextResolver) choose(chosen *kong.Context, flags []*kong.Flag) error {
	named, address := "", ""
	for _, f := range flags {
		switch {
		case !isSet(chosen, f):
		case f.Name == "context":
			named = fmt.Sprint(chosen.FlagValue(f))
			r.typed = slices.ContainsFunc(chosen.Path, func(p *kong.Path) bool { return p.Flag == f })
		case slices.Contains(addressFlags, f.Name):
			address = f.Name
		}
	}
	if named != "" && address != "" {
		return misused("context.context_and_choose_one_the", named, address)
	}
	if address != "" {
		return nil
	}
	file, path, err := readContexts()
	if err != nil {
		return err
	}
	r.name, r.path = cmp.Or(named, file.Current), path
	if r.name == "" {
		return nil
	}
	c, err := file.get(r.name, path)
	r.used = &c
	return err
}

// explain adds the context's name to an error about an unreachable server or invalid credentials.
func (r *contextResolver) explain(err error) error {
	_, unreachable := errors.AsType[*client.Unreachable](err)
	_, wrong := errors.AsType[*client.WrongServer](err)
	w, wire := errors.AsType[*client.WireError](err)
	if r.used == nil || !unreachable && !wrong && !isProblem(err, http.StatusUnauthorized) && !(wire &&
		slices.Contains(credentialCodes, w.Code)) {
		return err
	}
	return refused{err, inReader(err).Error() + tr("context.blamed", r.name, plain(r.path))}
}

// credentialCodes lists the errcodes that mean that the caller's credentials are invalid.
var credentialCodes = []int{errcode.InvalidCredential.Number, errcode.InvalidSecret.Number, errcode.InvalidAppID.Number,
	errcode.InvalidAccessToken.Number}

// maxSecret is the maximum length of a secret in bytes.
const maxSecret = 4096

// readSecret reads a secret from the source that a context names.
func readSecret(source, subject string) (string, error) {
	kind, location, _ := strings.Cut(source, ":")
	location = strings.TrimSpace(location)
	var text []byte
	var err error
	switch kind {
	case "env":
		text = []byte(os.Getenv(location))
	case "file":
		text, err = readSome(location, maxSecret+2)
	case "command":
		words := strings.Fields(location)
		c := exec.Command(words[0], words[1:]...)
		c.Stdin, c.Stderr = os.Stdin, os.Stderr
		text, err = c.Output()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", misused("context.reading_it_from", subject, source, err)
	}
	if err != nil {
		return "", fault("context.reading_it_from", subject, source, err)
	}
	line, err := firstLine(bytes.NewReader(text))
	if err != nil || line == "" {
		return "", misused("context.no_secret", subject, source, maxSecret)
	}
	return line, nil
}

// readSome reads the beginning of a file, at most limit bytes.
func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// firstLine reads the first line of a secret's source, at most maxSecret bytes, without the end of the line.
func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxSecret+2)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if line = strings.TrimRight(line, "\r\n"); len(line) > maxSecret {
		return "", misused("context.secret_too_long", maxSecret)
	}
	return line, err
}

type contextList struct {
	Name string `arg:"" optional:""`
	outputFlags
}

// Run lists the contexts and marks the current one with a star, or shows one context.
func (c *contextList) Run(s *session) error {
	file, path, err := readContexts()
	if err != nil {
		return err
	}
	if c.Name != "" {
		return c.show(s, file, path)
	}
	return c.print(s, file, nil, func(w io.Writer) {
		if len(file.Contexts) == 0 {
			printMsg(w, "context.names_no_context_yet_add", plain(path))
			return
		}
		names := slices.Sorted(maps.Keys(file.Contexts))
		printRows(w, []string{"", "NAME", "SERVER", "APPID", "PRODUCTION"}, names, func(name string) []string {
			context := file.Contexts[name]
			return []string{textIf(name == file.Current, "*"), name, orDash(context.place()), orDash(context.AppID),
				textIf(context.Production, yesNo(true))}
		})
	})
}

// place returns a short description of the server's address.
func (c serverContext) place() string { return cmp.Or(c.Server, c.Data) }

// show shows a context. show prints the sources of the secrets, never the secrets themselves.
func (c *contextList) show(s *session, file contextFile, path string) error {
	context, err := file.get(c.Name, path)
	return c.print(s, context, err, func(w io.Writer) {
		fields := [][2]string{{"name", c.Name}, {"file", path}}
		values := context.values()
		for _, field := range slices.Sorted(maps.Keys(values)) {
			fields = append(fields, [2]string{field, values[field]})
		}
		printFields(w, append(fields, [2]string{"production", textIf(context.Production, yesNo(true))})...)
	})
}

type contextSet struct {
	Name string `arg:""`
	serverContext
	Production *bool `negatable:""`
	Current    *bool `negatable:""`
}

// Run creates a context, or changes those fields of an existing context whose flags are set. The first context becomes the current context;
// a later context becomes the current context with --current.
func (c *contextSet) Run(s *session) error {
	if c.Name == "-" || strings.ContainsFunc(c.Name, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
	}) {
		return misused("context.context_want_letters_digits_and", c.Name)
	}
	if err := c.check(tr("context.context_set") + c.Name); err != nil {
		return err
	}
	file, path, err := readContexts()
	if err != nil {
		return err
	}
	context, known := file.Contexts[c.Name]
	if c.Current != nil && !known && c.place() == "" {
		_, err := file.get(c.Name, path)
		return err
	}
	dst, from := reflect.ValueOf(&context).Elem(), reflect.ValueOf(c.serverContext)
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			dst.Field(i).Set(from.Field(i))
		}
	}
	assign(&context.Production, c.Production)
	if context.place() == "" {
		return misused("context.missing_server", c.Name)
	}
	for _, address := range []string{context.Server, context.AdminServer, context.ScanServer} {
		if address != "" {
			if _, err := (serverFlags{}).connect(place{address, "server"}, client.Options{}); err != nil {
				return err
			}
		}
	}
	if file.Contexts == nil {
		file.Contexts = map[string]serverContext{}
	}
	file.Contexts[c.Name] = context
	switch first := !known && len(file.Contexts) == 1; {
	case c.Current != nil && !*c.Current && file.Current == c.Name:
		file.Current = ""
	case c.Current != nil && *c.Current, c.Current == nil && file.Current == "" && first:
		file.Current = c.Name
	}
	if err := file.write(path); err != nil {
		return failed(tr("context.context_set_2"), c.Name, err)
	}
	printMsg(s.out, "context.context_is_in", c.Name, plain(path))
	switch {
	case file.Current == c.Name && !known && c.Current == nil:
		printMsg(s.out, "context.first_is_current", c.Name)
	case file.Current == c.Name && c.Current != nil:
		printMsg(s.out, "context.the_current_context_is", plain(c.Name))
	case file.Current == "" && c.Current != nil:
		printMsg(s.out, "context.no_context_is_current")
	}
	return nil
}

type contextDelete struct {
	Name string `arg:""`
	confirmFlag
}

// Run removes a context.
func (c *contextDelete) Run(s *session) error {
	file, path, err := readContexts()
	if err != nil {
		return err
	}
	context, err := file.get(c.Name, path)
	if err != nil {
		return err
	}
	kind := tr("context.deletes", plain(c.Name), plain(path))
	if context.Production && !c.Yes {
		err = confirmByName(s, kind, c.Name, tr("named.add_yes"))
	} else {
		err = c.confirmed(s, kind)
	}
	if err != nil {
		return err
	}
	delete(file.Contexts, c.Name)
	if file.Current == c.Name {
		file.Current = ""
	}
	if err := file.write(path); err != nil {
		return failed(tr("context.context_delete"), c.Name, err)
	}
	printMsg(s.out, "context.context_is_gone", plain(c.Name))
	return nil
}
