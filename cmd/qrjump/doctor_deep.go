package main

import (
	"cmp"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// deep runs the checks whose time grows with the stored data: it compares the statistics and the lake with the scan log, and
// verifies the audit log.
func (c *doctorCommand) deep(s *session, v *walk) {
	qrjump, err := c.client()
	if err != nil {
		v.FailError("server", err)
		return
	}
	for _, check := range []struct {
		about string
		run   func(*session, *client.Client) error
	}{{"statistics", v.statistics}, {"lake", v.lake}, {"audit", v.audit}} {
		if err := check.run(s, qrjump); err != nil {
			v.FailError(check.about, err)
		}
	}
}

// statistics makes the server recount its scan log and compare the result with the stored statistics.
func (v *walk) statistics(s *session, qrjump *client.Client) error {
	r, err := qrjump.Statistics.Verify(s.ctx)
	if err != nil {
		return err
	}
	for _, d := range r.Differences {
		v.Fail("statistics", msg("doctor.counted", d.Name, d.Counted, d.Recounted), i18n.Message{})
	}
	if r.DifferenceCount == 0 {
		v.Pass("statistics", msg("doctor.statistics", r.Compared, r.Scans))
	}
	return nil
}

// lake compares the lake with the scan log, if the server writes a lake.
func (v *walk) lake(s *session, qrjump *client.Client) error {
	found, err := qrjump.Lake.Verify(s.ctx, "", "")
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	wrong := false
	for _, d := range found.Days {
		if !d.Consistent() {
			wrong = true
			v.Fail("lake", msg("doctor.lake.wrong", d.Date, d.Missing, d.Duplicates, d.Unexpected, d.NotErased), i18n.Message{})
		}
	}
	if !wrong {
		v.Pass("lake", msg("doctor.lake", len(found.Days)))
	}
	return nil
}

// audit verifies the audit log and prints its hash.
func (v *walk) audit(s *session, qrjump *client.Client) error {
	done, err := qrjump.AuditLog.Verify(s.ctx)
	if err != nil {
		return err
	}
	if f := done.FirstError; f != nil {
		v.Fail("audit", msg("doctor.audit.fault", f.Seq, f.Error), i18n.Message{})
	} else {
		v.Pass("audit", msg("doctor.audit", done.Changes, done.Seq, cmp.Or(done.Hash, "-")))
	}
	for _, o := range done.Orphans {
		v.Fail("audit", msg("doctor.orphan", o.Account, o.Kind, o.Count), msg("doctor.orphan.next", o.Account))
	}
	return nil
}
