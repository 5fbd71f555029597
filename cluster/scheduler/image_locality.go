package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// imageLocality prefers nodes that have the pod's images already, by their
// size. An image that few nodes have counts less, lest all pods go there.
func imageLocality() Plugin {
	const mb = int64(1 << 20)
	const least, mostOf = 23 * mb, 1000 * mb
	return Plugin{
		Name:   "ImageLocality",
		Weight: 1,
		For: func(pod *Pod, s *Snapshot) (r Rule) {
			all := imagesOf(pod.Pod)
			there := slices.DeleteFunc(slices.Clone(all), func(image string) bool { return s.images[image] == 0 })
			if len(there) == 0 {
				return r
			}
			upper := mostOf * int64(len(all))
			r.Score = each(func(n *Node) int64 {
				var sum int64
				for _, image := range there {
					sum += int64(float64(n.images[image]) * float64(s.images[image]) / float64(len(s.Nodes)))
				}
				return most * (min(max(sum, least), upper) - least) / (upper - least)
			})
			return r
		},
	}
}

// imagesOf are the images of p's containers and volumes, as nodes name them.
func imagesOf(p *corev1.Pod) (all []string) {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			all = append(all, tagged(list[i].Image))
		}
	}
	for i := range p.Spec.Volumes {
		if v := p.Spec.Volumes[i].Image; v != nil {
			all = append(all, tagged(v.Reference))
		}
	}
	return all
}

// tagged is an image's name with the tag that it has if it has none.
func tagged(image string) string {
	if strings.LastIndex(image, ":") <= strings.LastIndex(image, "/") {
		return image + ":latest"
	}
	return image
}

// setImages notes which images n has now, and had before as old.
func (s *Snapshot) setImages(n *Node, old *corev1.Node) {
	now := n.Status.Images
	if old != nil && sameImages(old.Status.Images, now) {
		return
	}
	for image := range n.images {
		s.countImage(image, -1)
	}
	n.images = make(map[string]int64, len(now))
	for i := range now {
		for _, name := range now[i].Names {
			if _, twice := n.images[name]; !twice {
				s.countImage(name, 1)
			}
			n.images[name] = now[i].SizeBytes
		}
	}
}

func sameImages(a, b []corev1.ContainerImage) bool {
	return slices.EqualFunc(a, b, func(a, b corev1.ContainerImage) bool {
		return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
	})
}

func (s *Snapshot) countImage(name string, d int) {
	if s.images[name] += d; s.images[name] == 0 {
		delete(s.images, name)
	}
}
