package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// bindingFlags holds the flags for the binding of codes: the activity, the product, and the page that the codes open.
type bindingFlags struct {
	Activity    string `required:"" placeholder:"NAME"`
	Brand       string `required:"" placeholder:"NAME"`
	Title       string `required:"" placeholder:"NAME"`
	ProductCode string `required:"" placeholder:"EAN"`
	codePage
}

func (c bindingFlags) binding() client.CodeBinding {
	return client.CodeBinding{ActivityName: c.Activity, ProductBrand: c.Brand, ProductTitle: c.Title,
		ProductCode: c.ProductCode, WxaAppID: c.Target, WxaPath: c.Path, WxaType: wxaTypes[c.Type]}
}

type batchSchedule struct {
	operator
	ID    int64    `arg:"" name:"id"`
	Range []string `arg:"" name:"range"`
	At    string   `required:"" placeholder:"TIME"`
	Note  string   `placeholder:"TEXT"`
	Actor string   `placeholder:"WHO"`
	bindingFlags
}

// Run makes a range of codes open a page from a given time on.
func (c *batchSchedule) Run(s *session, qrjump *client.Client) error {
	t, err := parseTime("--at", c.At, true)
	if err != nil {
		return err
	}
	from := formatTime(t)
	if c.At == "now" { // zero = the server's current time; a time from this machine would be in the past when the server receives it
		t = time.Time{}
	}
	r, err := rangeOf(s, qrjump, c.ID, c.Range, "schedule")
	if err != nil {
		return err
	}
	done, err := qrjump.Codes.Schedule(s.ctx, c.ID, client.Activation{From: r.From, To: r.To, Binding: c.binding(), EffectiveAt: t,
		Actor: c.Actor, Note: c.Note})
	s.warn(done)
	return c.outcome(s, done, aboutStored(s, qrjump, "schedule "+rangeText(r)+" of", c.ID, err),
		"batch_schedule.of_from_on_those_that", countedCodes(done.Codes), c.ID, from, plain(c.Path), plain(c.Target))
}

type codeLog struct {
	operator
	Which string `arg:"" name:"code|batch"`
	After int64  `placeholder:"SEQ"`
	Limit int    `default:"100" placeholder:"N"`
}

// Run shows the history of a batch's codes, or of one code with its scans.
func (c *codeLog) Run(s *session, qrjump *client.Client) error {
	id, err := strconv.ParseInt(c.Which, 10, 64)
	batch := err == nil
	var name client.CodeName
	if !batch {
		if name, err = codeName(c.Which); err != nil {
			return err
		}
	}
	if batch {
		return c.events(s, qrjump, id)
	}
	found, err := qrjump.Codes.Get(s.ctx, name)
	if err != nil {
		return aboutStoredCodes(s, qrjump, tr("batch_schedule.log_of")+c.Which, name.ID, err)
	}
	known, err := qrjump.Codes.GetScans(s.ctx, found.ApplicationID, found.CodeIndex)
	return c.print(s, map[string]any{"application_id": found.ApplicationID, "code_index": found.CodeIndex, "history": found.History,
		"scans": known}, aboutStoredCodes(s, qrjump, tr("batch_schedule.log_of")+c.Which, found.ApplicationID, err), func(w io.Writer) {
		printHistory(w, found.History)
		printScansOf(w, found, known)
	})
}

// events lists the events of an application's codes, oldest first.
func (c *codeLog) events(s *session, qrjump *client.Client, id int64) error {
	list, err := qrjump.Codes.ListEvents(s.ctx, id, c.After, c.Limit)
	rest := ""
	if n := len(list); n > 0 && n == c.Limit {
		rest = tr("batch_schedule.there_may_be_more_after", list[n-1].Seq)
	}
	return listing[client.CodeEvent]{name: "events", none: tr("batch_schedule.no_events"),
		heads: []string{"SEQ", "TIME", "ACTION", "CODES", "RANGE", "FROM", "BY", "NOTE", "RID"},
		more:  rest,
		row: func(e client.CodeEvent) []string {
			ranges := mapped(e.Ranges, rangeText)
			text := strings.Join(ranges[:min(len(ranges), 3)], " ")
			if len(ranges) > 3 {
				text += " …"
			}
			return []string{number(e.Seq), formatTime(e.OccurredAt), e.Action, number(e.Codes),
				orDash(text), effectiveTime(e), e.Actor, orDash(e.Note), orDash(e.RID)}
		}}.print(s, c.outputFlags, list, aboutStored(s, qrjump, tr("batch_schedule.log_of_batch"), id, err))
}

// printScansOf prints the scan data of a code.
func printScansOf(w io.Writer, code client.StoredCode, known client.CodeScans) {
	if known.Scans == 0 {
		printMsg(w, "batch_schedule.code_was_never_scanned", code.ApplicationID, code.CodeIndex)
		return
	}
	printFields(w, [2]string{"code", fmt.Sprintf("%d:%d", code.ApplicationID, code.CodeIndex)}, [2]string{"scans", number(known.Scans)},
		[2]string{"users", number(known.Users)}, [2]string{"first", moment(known.FirstAt)},
		[2]string{"last", moment(known.LastAt)}, [2]string{"networks", strconv.Itoa(known.Networks)},
		[2]string{"regions", strconv.Itoa(known.Regions)}, [2]string{"score", scoreText(known)},
		[2]string{"state", orDash(known.Stage)})
	for _, p := range known.Places {
		if p.Region != "" {
			printMsg(w, "batch_schedule.scanned_in", plain(p.Region), number(p.Scans))
		}
	}
}

// scoreText returns the alarm score of a code with its meaning.
func scoreText(known client.CodeScans) string {
	text := textOr(known.Threshold == 0, tr("batch_schedule.alarms_are_off_for_it", known.Score),
		tr("batch_schedule.suspected_copy", known.Score, known.Threshold))
	if known.DismissedAt != nil {
		text += tr("batch_schedule.of_the_scans_since") + moment(known.DismissedAt) + tr("batch_schedule.when_its_alarm_was_dismissed")
	}
	return text
}
