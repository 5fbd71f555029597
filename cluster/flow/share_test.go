package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/kind/flowcontrol"
)

// TestUpstreamsShares: what kube-apiserver says of its levels with the flags'
// defaults (apiserver_flowcontrol_nominal_limit_seats and its siblings).
func TestUpstreamsShares(t *testing.T) {
	levels := map[string]*flowv1.PriorityLevelConfiguration{}
	for _, l := range flowcontrol.Levels() {
		levels[l.Name] = l
	}
	got := divide(600, levels)
	for name, want := range map[string]bounds{
		"exempt":          {0, 0, 600, 10},
		"catch-all":       {13, 13, 613, 10},
		"system":          {74, 50, 674, 10},
		"node-high":       {98, 73, 698, 10},
		"leader-election": {25, 25, 625, 4},
		"workload-high":   {98, 49, 698, 10},
		"workload-low":    {245, 24, 845, 10},
		"global-default":  {49, 24, 649, 8},
	} {
		if got[name] != want {
			t.Errorf("%s: %+v, want %+v", name, got[name], want)
		}
	}
}

func TestLend(t *testing.T) {
	lender := wish{bounds: bounds{nominal: 50, least: 10, most: 150}}
	for _, c := range []struct {
		it     string
		wishes []wish
		want   []int
	}{
		{it: "alike, when nobody asks", wishes: []wish{lender, lender}, want: []int{50, 50}},
		{it: "to the one who asks", wishes: []wish{lender, {bounds: lender.bounds, peak: 200, smoothed: 200}}, want: []int{10, 90}},
		{it: "no more than may be borrowed", wishes: []wish{lender, {bounds: bounds{nominal: 50, least: 10, most: 60}, peak: 200, smoothed: 200}}, want: []int{40, 60}},
		{it: "what is used is not lent", wishes: []wish{{bounds: lender.bounds, peak: 45, smoothed: 45}, {bounds: lender.bounds, peak: 200, smoothed: 200}}, want: []int{45, 55}},
		{it: "who uses their own keeps it", wishes: []wish{{bounds: lender.bounds, peak: 100, smoothed: 100}, {bounds: lender.bounds, peak: 200, smoothed: 200}}, want: []int{50, 50}},
		{it: "what exempt requests take is nobody's", wishes: []wish{{exempt: true, peak: 70}, lender, lender}, want: []int{70, 15, 15}},
		{it: "not even what was not to be lent can be more than there is", wishes: []wish{{exempt: true, peak: 95}, lender, lender}, want: []int{95, 10, 10}},
	} {
		if got, _ := lend(c.wishes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.it, got, c.want)
		}
	}
}

// TestLendKeepsItsBounds: whatever is asked, all seats are given out, and
// nobody gets less than is theirs or more than they may have.
func TestLendKeepsItsBounds(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var wishes []wish
		total := 0
		for range 1 + r.IntN(8) {
			n := r.IntN(200)
			b := bounds{nominal: n, least: n - r.IntN(n+1), most: n + r.IntN(600)}
			wishes = append(wishes, wish{bounds: b, peak: r.IntN(400), smoothed: r.Float64() * 400})
			total += n
		}
		seats, _ := lend(wishes)
		sum := 0
		for i, w := range wishes {
			if seats[i] < w.least || seats[i] > w.most || seats[i] < min(w.nominal, w.peak) {
				t.Fatalf("seed %d: %d seats for %+v", seed, seats[i], w)
			}
			sum += seats[i]
		}
		if d := sum - total; d > len(wishes) || d < -len(wishes) { // rounded
			t.Fatalf("seed %d: %d seats of %d: %+v", seed, sum, total, wishes)
		}
	}
}

func TestAHandHasDifferentCards(t *testing.T) {
	seen := map[int]int{}
	for n := range uint64(20000) {
		hand := deal(n*0x9e3779b97f4a7c15, 64, 6, make([]int, maxHand))
		if len(hand) != 6 || !slices.IsSorted(hand) || len(slices.Compact(slices.Clone(hand))) != 6 || hand[0] < 0 || hand[5] > 63 {
			t.Fatalf("%v", hand)
		}
		for _, card := range hand {
			seen[card]++
		}
	}
	for card, n := range seen {
		if math.Abs(float64(n)-20000*6/64) > 200 {
			t.Errorf("queue %d was dealt %d times", card, n)
		}
	}
}

func TestDemandIsForgottenSlowly(t *testing.T) {
	at := time.Unix(1000, 0)
	d := demand{at: at, since: at}
	d.set(at, 40)
	d.set(at.Add(5*time.Second), 0)
	peak, smoothed := d.look(at.Add(10 * time.Second))
	if peak != 40 || math.Abs(smoothed-40) > 1e-9 { // half the time 40: 20 on average, spread by 20
		t.Errorf("peak %d, smoothed %g", peak, smoothed)
	}
	if peak, again := d.look(at.Add(20 * time.Second)); peak != 0 || math.Abs(again-40*decay) > 1e-9 {
		t.Errorf("peak %d, smoothed %g", peak, again)
	}
	// Nobody has looked for 5 minutes: about half is left.
	if peak, again := d.look(at.Add(320 * time.Second)); peak != 0 || math.Abs(again-40*math.Pow(decay, 31)) > 1e-9 {
		t.Errorf("peak %d, smoothed %g", peak, again)
	}
}

func TestRetryAfterFollowsTheCrowd(t *testing.T) {
	var d drops
	at := time.Unix(1000, 0)
	if got := d.add(at); got != 1 {
		t.Errorf("the first: %d", got)
	}
	for range 10 {
		d.add(at)
	}
	if got := d.add(at.Add(time.Second)); got != 2 {
		t.Errorf("after many: %d", got)
	}
	for s := range 60 {
		for range 200 {
			d.add(at.Add(time.Duration(2+s) * time.Second))
		}
	}
	if got := d.add(at.Add(62 * time.Second)); got != 32 {
		t.Errorf("after a minute of many: %d", got)
	}
	if got := d.add(at.Add(300 * time.Second)); got != 31 {
		t.Errorf("when it is quiet: %d", got)
	}
}
