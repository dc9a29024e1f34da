package store

// A Tx has what all transactions share: statements, locks and the changes that it notes. The rows of each entity have a type of their
// own around it. The transaction of a domain consists of the types that its interface needs.

type (
	accountQueries    struct{ *Tx }
	componentQueries  struct{ *Tx }
	qrcodeQueries     struct{ *Tx }
	ruleQueries       struct{ *Tx }
	bulkQueries       struct{ *Tx }
	codeQueries       struct{ *Tx }
	alarmQueries      struct{ *Tx }
	statisticsQueries struct{ *Tx }
	webhookQueries    struct{ *Tx }
	outboxQueries     struct{ *Tx }
	iamQueries        struct{ *Tx }
	usageQueries      struct{ *Tx }
	gs1Queries        struct{ *Tx }
	brandingQueries   struct{ *Tx }
)

// accountsTx implements accounts.Tx.
type accountsTx struct {
	*Tx
	accountQueries
	componentQueries
	qrcodeQueries
	bulkQueries
	outboxQueries
	usageQueries
}

func (t *Tx) accounts() accountsTx {
	return accountsTx{t, accountQueries{t}, componentQueries{t}, qrcodeQueries{t}, bulkQueries{t}, outboxQueries{t}, usageQueries{t}}
}

// rulesTx implements rules.Tx.
type rulesTx struct {
	*Tx
	ruleQueries
	bulkQueries
	accountQueries
	qrcodeQueries
	outboxQueries
}

func (t *Tx) rules() rulesTx {
	return rulesTx{t, ruleQueries{t}, bulkQueries{t}, accountQueries{t}, qrcodeQueries{t}, outboxQueries{t}}
}

// codesTx implements codes.Tx.
type codesTx struct {
	*Tx
	codeQueries
	accountQueries
	usageQueries
}

func (t *Tx) codes() codesTx { return codesTx{t, codeQueries{t}, accountQueries{t}, usageQueries{t}} }

// statisticsTx implements stats.Tx.
type statisticsTx struct {
	*Tx
	statisticsQueries
	alarmQueries
}

func (t *Tx) statistics() statisticsTx { return statisticsTx{t, statisticsQueries{t}, alarmQueries{t}} }

// webhooksTx implements webhooks.Tx.
type webhooksTx struct {
	*Tx
	webhookQueries
	outboxQueries
}

func (t *Tx) webhooks() webhooksTx { return webhooksTx{t, webhookQueries{t}, outboxQueries{t}} }

// gs1Tx implements digitallink.Tx.
type gs1Tx struct {
	*Tx
	gs1Queries
	accountQueries
}

func (t *Tx) gs1() gs1Tx { return gs1Tx{t, gs1Queries{t}, accountQueries{t}} }

// brandingTx implements appearance.Tx.
type brandingTx struct {
	*Tx
	brandingQueries
	accountQueries
}

func (t *Tx) branding() brandingTx { return brandingTx{t, brandingQueries{t}, accountQueries{t}} }

func (t *Tx) iam() iamQueries { return iamQueries{t} }
