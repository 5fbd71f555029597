package flow

// maxHand bounds the queues that one flow may be dealt. Validation of priority
// levels keeps queues and hand so small that 60 bits are enough for a deal,
// which no hand above this is.
const maxHand = 16

// deal chooses size different queues out of count for a flow, by its hash: two
// flows share all their queues seldom, so that a flow that fills its own leaves
// others some. (Shuffle sharding, KEP-1040.) The hash is used up digit by
// digit, each in the base of what is left to choose from.
func deal(hash uint64, count, size int, hand []int) []int {
	hand = hand[:0]
	for i := range size {
		left := uint64(count - i)
		card := int(hash % left)
		hash /= left
		// card counts those not chosen yet.
		at := 0
		for ; at < len(hand) && hand[at] <= card; at++ {
			card++
		}
		hand = append(hand, 0)
		copy(hand[at+1:], hand[at:])
		hand[at] = card
	}
	return hand
}

// hashOf is the flow's number: FNV-1a, spread over all bits.
func hashOf(schema, flow string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [...]string{schema, "\x00", flow} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
