package main

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// All commands select codes in the same syntax: an index (7), both ends of a range (0-4999), or all.

var (
	rangeForm  = regexp.MustCompile(`^([0-9]{1,18})(?:-([0-9]{1,18}))?$`)
	bareNumber = regexp.MustCompile(`^[0-9]{1,18}$`)
)

// parseRanges parses a selection of codes. Exactly two numbers, such as 0 99, are an error, because many users mean the range 0-99.
func parseRanges(texts []string) (ranges []client.CodeRange, all bool, err error) {
	if len(texts) == 2 && bareNumber.MatchString(texts[0]) && bareNumber.MatchString(texts[1]) {
		return nil, false, twoNumbers(texts[0], texts[1], tr("ranges.for_the_two_codes_alone", texts[0], texts[0], texts[1], texts[1]))
	}
	for _, text := range texts {
		if text == "all" {
			all = true
			continue
		}
		m := rangeForm.FindStringSubmatch(text)
		if m == nil {
			return nil, false, misused("ranges.is_no_range_want_5", text)
		}
		from, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits fit
		to, _ := strconv.ParseInt(cmp.Or(m[2], m[1]), 10, 64)
		if from > to {
			return nil, false, misused("ranges.is_no_range_it_ends", text)
		}
		ranges = append(ranges, client.CodeRange{From: from, To: to})
	}
	return ranges, all, nil
}

// parseRange parses a selection of exactly one range.
func parseRange(texts []string) (r client.CodeRange, all bool, err error) {
	if len(texts) == 2 && bareNumber.MatchString(texts[0]) && bareNumber.MatchString(texts[1]) {
		return r, false, twoNumbers(texts[0], texts[1], "")
	}
	if len(texts) != 1 {
		return r, false, misused("ranges.want_one_range_0_4999", strings.Join(texts, " "))
	}
	ranges, all, err := parseRanges(texts)
	if err == nil && !all {
		r = ranges[0]
	}
	return r, all, err
}

// rangeOf returns the selected range of a batch; did is the name of the action for an error.
func rangeOf(s *session, qrjump *client.Client, id int64, texts []string, did string) (client.CodeRange, error) {
	r, all, err := parseRange(texts)
	if err == nil && all {
		r, err = wholeBatch(s, qrjump, id, did)
	}
	return r, err
}

// wholeBatch returns the range of all codes of a batch; did is the name of the action for the error about a missing batch.
func wholeBatch(s *session, qrjump *client.Client, id int64, did string) (client.CodeRange, error) {
	batch, err := qrjump.Batches.Get(s.ctx, id)
	if err != nil {
		return client.CodeRange{}, aboutStored(s, qrjump, did, id, err)
	}
	return client.CodeRange{From: 0, To: batch.Count - 1}, nil
}

// twoNumbers returns the error for a selection such as 0 99, with the selections that the user may have meant.
func twoNumbers(first, second, fallback string) error {
	from, _ := strconv.ParseInt(first, 10, 64)
	to, _ := strconv.ParseInt(second, 10, 64)
	if from > to {
		first, second, from, to = second, first, to, from
	}
	return misused("ranges.and_are_two_numbers_for", first, second, countedCodes(to-from+1), first, second, fallback)
}

// wholeOf returns the range of all codes of an application that belongs to the calling account.
func wholeOf(s *session, wire *client.Client, id int64) (client.CodeRange, error) {
	a, err := wire.Wire.GetApplication(s.ctx, client.ApplicationKey{ID: id})
	if err != nil {
		return client.CodeRange{}, err
	}
	if a.Status != client.ApplicationFinished || len(a.Segments) == 0 {
		return client.CodeRange{}, fault("ranges.the_application_is_not_yet", plain(a.Status), client.ApplicationFinished)
	}
	return client.CodeRange{From: 0, To: a.Segments[len(a.Segments)-1].To}, nil
}

func rangeText(r client.CodeRange) string {
	if r.From == r.To {
		return number(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}
