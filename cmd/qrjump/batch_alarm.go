package main

import (
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

type batchAlarm struct {
	operator
	ID        int64 `arg:"" name:"id"`
	Threshold int64 `xor:"alarm" placeholder:"N"`
	Off       bool  `xor:"alarm"`
	Default   bool  `xor:"alarm"`
	Replay    int64 `xor:"alarm" placeholder:"N"`
}

// Run shows or sets the score at which a code of an application raises an alarm.
func (c *batchAlarm) Run(s *session, qrjump *client.Client) error {
	if c.Threshold < 0 || c.Replay < 0 {
		return misused("batch_alarm.threshold_and_replay_take_a")
	}
	if c.Replay > 0 {
		r, err := qrjump.Batches.ReplayAlarms(s.ctx, c.ID, c.Replay)
		return c.print(s, r, aboutStored(s, qrjump, tr("batch_alarm.replay_the_alarms_of"), c.ID, err),
			func(w io.Writer) { printReplay(w, r) })
	}
	currentAlarm, err := client.BatchAlarm{}, error(nil)
	if c.Threshold > 0 || c.Off || c.Default {
		currentAlarm, err = qrjump.Batches.SetAlarmThreshold(s.ctx, c.ID, client.BatchAlarmPut{Threshold: c.Threshold, Off: c.Off})
	} else {
		currentAlarm, err = qrjump.Batches.GetAlarmThreshold(s.ctx, c.ID)
	}
	return c.print(s, currentAlarm, aboutStored(s, qrjump, "alarm", c.ID, err), func(w io.Writer) {
		from := textOr(currentAlarm.Overridden, tr("batch_alarm.own_threshold"), tr("batch_alarm.server_threshold"))
		kind := textOr(currentAlarm.Off, tr("batch_alarm.disabled", currentAlarm.ApplicationID),
			tr("batch_alarm.threshold", currentAlarm.ApplicationID, currentAlarm.Threshold))
		fmt.Fprintf(w, "%s (%s)\n", kind, from)
		if proposed := currentAlarm.ProposedThreshold; proposed > 0 {
			printMsg(w, "batch_alarm.proposal", proposed, i18n.Grouped(int64(currentAlarm.ProposalCodes)), c.ID, proposed)
		}
		if currentAlarm.OpenAlarmCount > 0 {
			printMsg(w, "batch_alarm.alarms_of_stand_qrjump_stats", countedCodes(currentAlarm.OpenAlarmCount), currentAlarm.ApplicationID)
		}
	})
}

func printReplay(w io.Writer, r client.AlarmReplay) {
	fields := [][2]string{{"from", formatTime(r.From)}, {"to", formatTime(r.To)}, {"codes scanned", i18n.Grouped(r.Scanned)},
		{tr("batch_alarm.alarms_at") + number(r.Threshold), i18n.Grouped(r.Alarms)}, {"alarms raised", i18n.Grouped(r.Raised)},
		{"dismissed", i18n.Grouped(r.Dismissed)}, {"dismissed, would be raised", i18n.Grouped(r.StillDismissed)}}
	if r.Since != nil {
		fields = append(fields, [2]string{"since", formatTime(*r.Since) +
			tr("batch_alarm.older_scans_missing")})
	}
	printFields(w, fields...)
	if len(r.FirstAlarms) == 0 {
		return
	}
	fmt.Fprintln(w)
	printRows(w, []string{"TIME", "CODE", "SCORE"}, r.FirstAlarms, func(alarm client.ReplayedAlarm) []string {
		return []string{formatTime(alarm.OccurredAt), fmt.Sprintf("%d:%d", r.ApplicationID, alarm.CodeIndex), number(alarm.Score)}
	})
	if int64(len(r.FirstAlarms)) < r.Alarms {
		printMsg(w, "batch_alarm.and_more", i18n.Grouped(r.Alarms-int64(len(r.FirstAlarms))))
	}
}
