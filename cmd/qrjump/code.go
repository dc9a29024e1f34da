package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/errortext"
)

// codeName parses the name of a code as users type it.
func codeName(text string) (client.CodeName, error) {
	name := client.ParseCodeName(text)
	if name.URL != "" && !strings.Contains(text, "/") {
		return name, misused("code.invalid", text)
	}
	return name, nil
}

type codeShow struct {
	member
	adminFlags
	Code string `arg:""`
	Text bool
}

// Run shows a code, which it reads from the operator's API or from the account's API.
func (c *codeShow) Run(s *session) error {
	name, err := codeName(c.Code)
	if err != nil {
		return err
	}
	if isPlatform(c.Server) && c.AdminServer == "" {
		return c.asAccount(s, name)
	}
	loc, token, err := c.admin(c.adminFlags)
	if err != nil {
		return err
	}
	if token == "" && (c.AccessToken != "" || c.AppID != "" && c.Secret != "") {
		return c.asAccount(s, name)
	}
	qrjump, err := c.connect(loc, client.Options{AdminToken: token})
	if err != nil {
		return err
	}
	found, err := qrjump.Codes.Get(s.ctx, name)
	return c.print(s, found, aboutStoredCodes(s, qrjump, doing("show", c.Code), name.ID, err), func(w io.Writer) {
		if c.Text {
			fmt.Fprintln(w, found.CodeURL)
			return
		}
		printCode(w, found)
	})
}

func (c *codeShow) asAccount(s *session, name client.CodeName) error {
	if c.Text {
		return misused("code.text_requires_operator")
	}
	wire, err := c.client(s)
	if err != nil {
		return err
	}
	found, err := wire.Wire.GetCode(s.ctx, name)
	return c.print(s, found, aboutCodes(doing("show", c.Code), err), func(w io.Writer) { printBound(w, found) })
}

func printCode(w io.Writer, c client.StoredCode) {
	state := func(is bool, name string) string { return textIf(is, localizeOr("state."+name, name)) }
	states := joined(", ", state(c.Void, "void"), state(c.Active, "active"), state(!c.Active, tr("code.not_active")),
		state(c.Frozen, "frozen"), state(c.Redeemed, "redeemed"))
	fields := [][2]string{{"code", c.Code}, {"text", c.CodeURL}, {"application", number(c.ApplicationID)},
		{"index", number(c.CodeIndex)}, {"serial", c.Serial}, {"state", states}}
	for _, a := range c.Alarms {
		kind := localizeOr("alarm.kind."+a.Kind, tr("code.suspected_copy")+number(a.Score))
		seen := textOr(a.AcknowledgedAt != nil, tr("code.acknowledged_by")+a.AcknowledgedBy, "open")
		fields = append(fields, [2]string{"alarm", tr("code.alarm", a.ID, formatTime(a.OccurredAt), seen, kind, a.ID)})
	}
	if c.Activation != nil {
		fields = append(fields, boundFields(c.Activation.Binding)...)
		fields = append(fields, [2]string{"warning", c.Activation.Warning})
	}
	if c.Void { // the state void is printed before all other fields
		printMsg(w, "code.this_code_is_void_it")
	}
	printFields(w, fields...)
}

// printHistory prints the history of a code, newest last.
func printHistory(w io.Writer, history []client.CodeEvent) {
	printRows(w, []string{"TIME", "ACTION", "CODES", "BY", "FROM", "NOTE", "RID"}, reversed(history), func(e client.CodeEvent) []string {
		return []string{formatTime(e.OccurredAt), localizeOr("did."+e.Action, e.Action), number(e.Codes), e.Actor, effectiveTime(e),
			orDash(e.Note), orDash(e.RID)}
	})
}

// effectiveTime formats the time at which an event takes effect; "-" means immediately.
func effectiveTime(e client.CodeEvent) string {
	return orDash(textIf(!e.EffectiveAt.Equal(e.OccurredAt), formatTime(e.EffectiveAt)))
}

func printBound(w io.Writer, b client.BoundCode) {
	fields := [][2]string{{"code", b.Code}, {"application", number(b.ApplicationID)}, {"isv", b.ISV}}
	if b.Binding == nil {
		printFields(w, append(fields, [2]string{"state", tr("code.not_active")})...)
		return
	}
	fields = append(append(fields, [2]string{"state", tr("code.active_with") + rangeText(*b.Activated)}), boundFields(b.Binding)...)
	printFields(w, fields...)
}

func boundFields(b *client.CodeBinding) [][2]string {
	if b == nil {
		return nil
	}
	return [][2]string{{"opens", tr("audit.mini_program") + b.WxaAppID + ", " + wxaTypeName(b.WxaType)}, {"page", b.WxaPath},
		{"activity", b.ActivityName},
		{"brand", b.ProductBrand}, {"title", b.ProductTitle}, {"product", b.ProductCode}}
}

// selectedCodes holds the arguments that select codes of an application and that name the actor and the reason of the change.
type selectedCodes struct {
	ID        int64    `arg:"" name:"id"`
	Ranges    []string `arg:"" optional:"" name:"range"`
	CodesFile string   `placeholder:"FILE" file:"in,self"`
	Note      string   `placeholder:"TEXT"`
	Actor     string   `placeholder:"WHO"`
}

// selections returns the selected codes, split into requests that are below the size limit of the admin API: a request body has at most 1
// MiB.
func (c *selectedCodes) selections(s *session) ([]client.CodeSelection, error) {
	const most = 8000 // maximum number of codes per request if each code text has 128 characters
	var list []client.CodeSelection
	ranges, all, err := parseRanges(c.Ranges)
	if err != nil {
		return nil, err
	}
	codes, err := c.codes(s)
	switch {
	case err != nil:
		return nil, err
	case all && len(ranges)+len(codes) > 0:
		return nil, misused("code.all_and_others", c.ID)
	case all:
		return []client.CodeSelection{{All: true}}, nil
	case len(ranges) == 0 && len(codes) == 0:
		return nil, misused("code.missing_codes", c.ID)
	}
	for part := range slices.Chunk(ranges, most) {
		list = append(list, client.CodeSelection{Ranges: part})
	}
	for part := range slices.Chunk(codes, most) {
		list = append(list, client.CodeSelection{Codes: part})
	}
	if len(ranges)+len(codes) <= most { // a single request, so that the change is atomic
		return []client.CodeSelection{{Ranges: ranges, Codes: codes}}, nil
	}
	return list, nil
}

// codes returns the code texts in the file of --codes-file; nil without the flag.
func (c *selectedCodes) codes(s *session) ([]string, error) {
	if c.CodesFile == "" {
		return nil, nil
	}
	in, err := s.openInput(c.CodesFile)
	if err != nil {
		return nil, misused("code.codes_file", err)
	}
	defer in.Close()
	var list []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		// Spreadsheets write a byte order mark at the start of a file.
		if line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff")); line != "" {
			list = append(list, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fault("code.codes_file_2", c.CodesFile, err)
	}
	if len(list) == 0 {
		return nil, misused("code.codes_file_no_codes_in", c.CodesFile)
	}
	return list, nil
}

// change changes the selected codes; did is freeze, unfreeze, redeem, void or deactivate. If end is not nil, the user must confirm the
// change first.
func (c *selectedCodes) change(s *session, qrjump *client.Client, o outputFlags, end *confirmFlag, did string) error {
	parts, err := c.selections(s)
	if err != nil {
		return err
	}
	if end != nil {
		if err := end.confirmed(s, tr("code.ends."+did, describeSelection(parts), c.ID)); err != nil {
			return err
		}
	}
	var done client.CodesChanged
	for i, part := range parts {
		var n client.CodesChanged
		change := client.CodeChange{CodeSelection: part, Actor: c.Actor, Note: c.Note}
		if did == "deactivate" {
			n, err = qrjump.Codes.Deactivate(s.ctx, c.ID, time.Time{}, change)
		} else {
			n, err = qrjump.Codes.Update(s.ctx, c.ID, did, change)
		}
		if err != nil {
			err = aboutStored(s, qrjump, did+tr("code.codes_of"), c.ID, err)
			if i > 0 {
				return hintError{error: err, next: tr("code.of_the_before_it_were", countedCodes(done.Changed), countedCodes(done.Codes),
					tr("code.part."+did))}
			}
			return err
		}
		s.warn(n)
		done.Codes += n.Codes
		done.Changed += n.Changed
	}
	says := tr("code.of", tr("code.past."+did), countedCodes(done.Codes), c.ID)
	if done.Changed != done.Codes {
		says = tr("code.of_of_the_other", tr("code.past."+did), done.Changed, countedCodes(done.Codes), c.ID,
			done.Codes-done.Changed, tr("code.unchanged."+did))
	}
	err = o.print(s, map[string]any{"application_id": c.ID, "action": did, "codes": done.Codes, "changed": done.Changed}, nil,
		func(w io.Writer) { fmt.Fprintln(w, says) })
	if err != nil || did != client.Redeem {
		return err
	}
	// A partial redemption is an error, so that a point of sale does not give an item for a code that was redeemed before.
	if done.Changed < done.Codes {
		return fault("code.not_all_were_redeemed_by", done.Codes-done.Changed, countedCodes(done.Codes), c.ID, tr("code.unchanged."+did))
	}
	return err
}

// warn prints the server's warning.
func (s *session) warn(done client.CodesChanged) {
	if done.Warning != "" {
		fmt.Fprintln(s.err, tr("code.warning", errortext.In(outputLanguage.language(), done.Warning)))
	}
}

// describeSelection returns the number of selected codes in words: a count, or "all codes" if the client does not know the count.
func describeSelection(parts []client.CodeSelection) string {
	var n int64
	for _, part := range parts {
		if part.All {
			return tr("code.all_codes")
		}
		for _, r := range part.Ranges {
			n += r.Len()
		}
		n += int64(len(part.Codes))
	}
	return countedCodes(n)
}

// codeChange is a command that changes codes and needs no confirmation: unfreeze, after which codes open their page again, and redeem,
// which fails if one of the codes was already redeemed.
type codeChange struct {
	operator
	selectedCodes
}

// Run makes the change that the command's name states.
func (c *codeChange) Run(s *session, qrjump *client.Client, chosen *kong.Context) error {
	return c.change(s, qrjump, c.outputFlags, nil, chosen.Selected().Name)
}

// codeEnd is a command that changes codes so that they open nothing: freeze, until they are unfrozen, deactivate, and void.
type codeEnd struct {
	operator
	selectedCodes
	confirmFlag
}

// Run makes the change that the command's name says, after a confirmation.
func (c *codeEnd) Run(s *session, qrjump *client.Client, chosen *kong.Context) error {
	return c.change(s, qrjump, c.outputFlags, &c.confirmFlag, chosen.Selected().Name)
}

type codeExchange struct {
	member
	Ticket string `arg:""`
	OpenID string `name:"openid" required:"" placeholder:"OPENID"`
}

// Run exchanges the ticket of a scan for the code.
func (c *codeExchange) Run(s *session, wire *client.Client) error {
	found, err := wire.Wire.ExchangeTicket(s.ctx, c.OpenID, c.Ticket)
	return c.print(s, found, aboutCodes(tr("code.trade_the_ticket"), err), func(w io.Writer) { printBound(w, found) })
}
