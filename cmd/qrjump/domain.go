package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

type domainList struct{ operator }

// domainMeanings say what each status does.
var domainMeanings = map[string]string{
	"trusted": "domain.its_verification_file_is_not",
	"denied":  "domain.nobody_may_set_rules_on",
	"no_icp":  "domain.an_add_answers_that_it",
}

// domainMeaning says what a status does; "" for one that a newer server knows.
func domainMeaning(status string) string {
	if key := domainMeanings[status]; key != "" {
		return said(key)
	}
	return ""
}

// Run lists what was said of hosts.
func (c *domainList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Domains.List(s.ctx)
	return listing[client.Domain]{name: "domains", none: said("domain.nothing_is_said_of_any"),
		heads: []string{"HOST", "STATUS", "SINCE", "MEANING"}, row: func(d client.Domain) []string {
			return []string{d.Host, d.Status, when(d.At), domainMeaning(d.Status)}
		}}.print(s, c.outputFlags, list, failed("list", "domains", err))
}

type domainSet struct {
	operator
	Host   string `arg:""`
	Status string `arg:"" enum:"trusted,denied,no_icp"`
}

// Run says something of a host.
func (c *domainSet) Run(s *session, qrjump *client.Client) error {
	err := qrjump.Domains.Set(s.ctx, c.Host, c.Status)
	host := strings.ToLower(c.Host)
	return c.outcome(s, map[string]any{"host": host, "status": c.Status}, failed(said("domain.set_domain"), c.Host, err),
		"domain.is_now", plain(host), c.Status, domainMeaning(c.Status))
}

type domainDelete struct {
	operator
	Host string `arg:""`
	ending
}

// Run takes back what was said of a host.
func (c *domainDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Domains.List(s.ctx)
	if err != nil {
		return failed(said("domain.forget_domain"), c.Host, err)
	}
	one, err := named(list, func(d client.Domain) string { return d.Host }, "forget", strings.ToLower(c.Host), "domain",
		"qrjump domain list")
	if err != nil {
		return err
	}
	if err := c.confirmed(s, said("domain.is_no_more", plain(one.Host), one.Status)); err != nil {
		return err
	}
	err = qrjump.Domains.Delete(s.ctx, c.Host)
	return c.outcome(s, one, failed(said("domain.forget_domain"), c.Host, err),
		"domain.nothing_is_said_of_any_2", plain(one.Host), one.Status)
}
