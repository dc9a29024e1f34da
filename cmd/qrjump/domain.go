package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

type domainList struct{ operator }

// domainMeanings say what each status does.
var domainMeanings = map[string]string{
	"trusted": "its verification file is not looked for",
	"denied":  "nobody may set rules on it",
	"no_icp":  "an add answers that it has no ICP record",
}

// Run lists what was said of hosts.
func (c *domainList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Domains(s.ctx)
	return listing[client.Domain]{name: "domains", none: "nothing is said of any host",
		heads: []string{"HOST", "STATUS", "SINCE", "MEANING"}, row: func(d client.Domain) []string {
			return []string{d.Host, d.Status, when(d.At), domainMeanings[d.Status]}
		}}.print(s, c.outputFlags, list, failed("list", "domains", err))
}

type domainSet struct {
	operator
	Host   string `arg:""`
	Status string `arg:"" enum:"trusted,denied,no_icp"`
}

// Run says something of a host.
func (c *domainSet) Run(s *session, qrjump *client.Client) error {
	err := qrjump.SetDomain(s.ctx, c.Host, c.Status)
	host := strings.ToLower(c.Host)
	return c.outcome(s, map[string]any{"host": host, "status": c.Status}, failed("set domain", c.Host, err),
		"%s is %s now: %s", plain(host), c.Status, domainMeanings[c.Status])
}

type domainForget struct {
	operator
	Host string `arg:""`
}

// Run takes back what was said of a host.
func (c *domainForget) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Domains(s.ctx)
	if err != nil {
		return failed("forget domain", c.Host, err)
	}
	one, err := named(list, func(d client.Domain) string { return d.Host }, "forget", strings.ToLower(c.Host), "domain",
		"qrjump domain list")
	if err != nil {
		return err
	}
	err = qrjump.ForgetDomain(s.ctx, c.Host)
	return c.outcome(s, one, failed("forget domain", c.Host, err),
		"nothing is said of %s any more; it was %s", plain(one.Host), one.Status)
}
