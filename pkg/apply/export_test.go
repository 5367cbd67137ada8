package apply

// Slow returns an Applier that takes no short way.
func (a *Applier) Slow() *Applier {
	as := *a
	as.owners = a.owners.WithoutShortWays()
	return &as
}
