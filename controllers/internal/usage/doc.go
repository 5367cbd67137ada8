// Package usage tells what Apps, appliances, namespaces and nodes use, now and in the past.
//
// What is used now is what the observer of guests saw last (package bulk), so it costs
// nothing; where nobody looks, a request for it schedules one read of the list of all
// resources. The past is what Proxmox keeps (rrddata): one request per guest or node and
// range, made in the background when somebody asked, at most readers at a time.
//
// A Desk never asks Proxmox while it answers. It answers with what there is and its age, and
// says how much is missing. Everything is in memory and of this daemon's life: nothing is
// written to the store.
//
// Bounds: maxSeries graphs of at most 100 points (about 5 KiB) each; those that nobody asked
// for the longest make room. At most maxQueue reads wait; further ones are scheduled when
// they are asked for again. A graph is as new as its range needs: 1 minute (hour), 5
// minutes (day), 30 minutes (week), 2 hours (month), 6 hours (year). A read that failed is
// not tried again for retryAfter.
package usage
