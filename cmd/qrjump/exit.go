package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/server"
)

// The exit codes of all commands. If its error has no exit code of its own, a command exits with exitFailed.
const (
	exitDone        = 0
	exitFailed      = 1
	exitMisused     = 2
	exitRefused     = 3
	exitAbsent      = 4
	exitUnreachable = 5
	exitDifferent   = 6
	exitInterrupted = 130 // 128 plus the signal number, the shell convention.
	exitTerminated  = 143

	// exitChanges is the exit code of plan --detailed-exitcode if a plan has changes; other planning tools use the same code.
	exitChanges = 2
)

// errReported is the error of a command that has already printed its result; for this error, no message is printed.
var errReported = errors.New("")

// exitKind maps each exit code to the name of its kind. The message catalogue explains each kind under a key such as exit.done.
var exitKind = map[int]string{exitDone: "done", exitFailed: "failed", exitMisused: "usage", exitRefused: "refused", exitAbsent: "not_found",
	exitUnreachable: "unreachable", exitDifferent: "differences", exitInterrupted: "interrupted", exitTerminated: "terminated"}

// exitCodes lists the keys of exitKind in ascending order.
var exitCodes = slices.Sorted(maps.Keys(exitKind))

// exitError is an error with an exit code.
type exitError struct {
	error
	code int
}

func (c exitError) Unwrap() error { return c.error }

// absent wraps an error about an object that does not exist, with the exit code exitAbsent.
func absent(err error) error { return exitError{err, exitAbsent} }

// different returns the error of a comparison that found differences, with the exit code exitDifferent.
func different(key string, values ...any) error {
	return exitError{fault(key, values...), exitDifferent}
}

// absentCodes lists the errcodes that mean that an object does not exist.
var absentCodes = []int{errcode.InvalidAppID.Number, errcode.RIDNotFound.Number}

// exitOf returns the exit code of an error.
func exitOf(err error) int {
	if err == nil {
		return exitDone
	}
	if c, ok := errors.AsType[exitError](err); ok {
		return c.code
	}
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, server.ErrUsage) {
		return exitMisused
	}
	if w, ok := errors.AsType[*client.WireError](err); ok {
		if slices.Contains(absentCodes, w.Code) {
			return exitAbsent
		}
		return exitRefused
	}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		switch {
		case p.Status == http.StatusNotFound:
			return exitAbsent
		case p.Status < http.StatusInternalServerError:
			return exitRefused
		}
		return exitFailed
	}
	_, unreachable := errors.AsType[*client.Unreachable](err)
	_, wrong := errors.AsType[*client.WrongServer](err)
	if unreachable || wrong {
		return exitUnreachable
	}
	return exitFailed
}

// failure is the JSON form of an error, which a command with --output json prints on standard error.
type failure struct {
	Kind    string   `json:"kind"`              // The name of the exit code in exitKind.
	Exit    int      `json:"exit"`              //
	Message string   `json:"message"`           // The failed operation and its object.
	Next    string   `json:"next,omitempty"`    // The next step.
	Details []string `json:"details,omitempty"` // Additional facts about the error.
	Errcode int      `json:"errcode,omitempty"` // The errcode of a wire API response.
	RID     string   `json:"rid,omitempty"`     // for qrjump why
	Status  int      `json:"status,omitempty"`  // The HTTP status of a scan API or admin API response.
	URL     string   `json:"url"`               // The page with more information.
}

// pageOf returns the address of the documentation of an error: the section about the errcode, or the section about exit codes if the error
// has no documented errcode.
func pageOf(f failure) string {
	page := "commands.md#exit-codes"
	if _, described := errcode.ByNumber(f.Errcode); described && f.Errcode != 0 {
		page = fmt.Sprintf("errors.md#%d", f.Errcode)
	}
	return "https://github.com/qrjump/qrjump/blob/v" + version.Number() + "/docs/en/" + page
}

// failureOf converts an error to its JSON form.
func failureOf(err error) failure {
	f := failure{Exit: exitOf(err), Message: plain(err.Error())}
	f.Kind = exitKind[f.Exit]
	next, details := remedy(err)
	f.Next, f.Details = next.String(), details
	if w, ok := errors.AsType[*client.WireError](err); ok {
		f.Errcode, f.RID = w.Code, w.RID
	}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		f.Status = p.Status
	}
	f.URL = pageOf(f)
	return f
}

var jsonAsked = regexp.MustCompile(`(^| )(-o ?=?|--output[= ])json( |$)`)

// wantsJSON reports whether errors are printed as JSON: --output json is among the arguments, or QRJUMP_OUTPUT is json.
func wantsJSON(chosen *kong.Context, args []string) bool {
	asked := os.Getenv("QRJUMP_OUTPUT") == "json"
	if chosen == nil || chosen.Selected() == nil { // The arguments could not be parsed, so the command is not known.
		return asked || jsonAsked.MatchString(strings.Join(args, " "))
	}
	for _, f := range chosen.Selected().Flags {
		if f.Name == "output" {
			form, _ := chosen.FlagValue(f).(string)
			return form == "json"
		}
	}
	return asked
}

// printError prints an error on standard error: as text lines, or as a JSON object.
func printError(s session, err error, asJSON bool) {
	if errors.Is(err, errReported) {
		return
	}
	if asJSON {
		e := json.NewEncoder(s.err)
		e.SetEscapeHTML(false)
		_ = e.Encode(map[string]failure{"error": failureOf(err)})
		return
	}
	for i, line := range report(err) {
		if i == 0 {
			line = "qrjump: " + line
		}
		fmt.Fprintln(s.err, line)
	}
}

// verbFirst moves flags that precede the command ("qrjump --server URL rule list") to the place after it, where the parser expects them.
func verbFirst(model *kong.Application, args []string) []string {
	takesValue := map[string]bool{}
	for _, node := range append(model.Leaves(false), model.Node) {
		for _, f := range node.Flags {
			takesValue[f.Name] = !f.IsBool()
			if f.Short != 0 {
				takesValue[string(f.Short)] = !f.IsBool()
			}
		}
	}
	n := 0
	for n < len(args) && strings.HasPrefix(args[n], "-") && len(args[n]) > 1 && args[n] != "--" {
		name, _, ok := strings.Cut(strings.TrimLeft(args[n], "-"), "=")
		if takes, known := takesValue[name]; !known {
			return args // The parser reports the unknown flag.
		} else if takes && !ok {
			n++
		}
		n++
	}
	if n == 0 || n >= len(args) {
		return args
	}
	// The flags are inserted after the words of the command and before its positional arguments.
	verb := n
	for node := model.Node; verb < len(args); verb++ {
		next := childNamed(node, args[verb])
		if next == nil {
			break
		}
		node = next
	}
	moved := append([]string{}, args[n:verb]...)
	moved = append(moved, args[:n]...)
	return append(moved, args[verb:]...)
}

func childNamed(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}
