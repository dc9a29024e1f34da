package store

// Tx has the statements, locks and queued changes; the following types add the queries of the entities. Each type implements the Tx
// interfaces of domain packages, which document the methods, and embeds the type with the queries that it shares with other domains.
type (
	outboxQueries     struct{ *Tx }            // outbox.Tx
	accountQueries    struct{ outboxQueries }  // accounts.Tx and apiusage.Tx, also platforms, QR codes and bulk imports
	ruleQueries       struct{ accountQueries } // rules.Tx
	codeQueries       struct{ accountQueries } // codes.Tx
	gs1Queries        struct{ accountQueries } // digitallink.Tx
	brandingQueries   struct{ accountQueries } // branding.Tx
	webhookQueries    struct{ outboxQueries }  // webhooks.Tx
	alarmQueries      struct{ *Tx }            // alarms.Tx
	statisticsQueries struct{ alarmQueries }   // stats.Tx
	iamQueries        struct{ *Tx }            // iam.Tx
)

func (t *Tx) accounts() accountQueries      { return accountQueries{outboxQueries{t}} }
func (t *Tx) rules() ruleQueries            { return ruleQueries{t.accounts()} }
func (t *Tx) codes() codeQueries            { return codeQueries{t.accounts()} }
func (t *Tx) gs1() gs1Queries               { return gs1Queries{t.accounts()} }
func (t *Tx) branding() brandingQueries     { return brandingQueries{t.accounts()} }
func (t *Tx) webhooks() webhookQueries      { return webhookQueries{outboxQueries{t}} }
func (t *Tx) statistics() statisticsQueries { return statisticsQueries{alarmQueries{t}} }
func (t *Tx) iam() iamQueries               { return iamQueries{t} }
