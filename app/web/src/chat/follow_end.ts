import { useEffect, useRef, useState } from "preact/hooks";

// Whoever is this near to the end is at the end.
const NEAR_PX = 48;
const AWAY_PX = 240;
// For what comes after the last word: the buttons under an answer.
const AFTER_MS = 600;

/**
 * Keeps the end of a scrolled element in view while it grows by itself, as long as the reader is
 * there; who has scrolled up stays where they are, and so does who opens something to read it.
 */
export function useFollowEnd(isGrowing: boolean) {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isFollowing = useRef(true);
  const grows = useRef({ isGrowing, until: 0 });
  const [isAway, setAway] = useState(false);

  useEffect(() => {
    const hasGrown = grows.current.isGrowing && !isGrowing;
    grows.current = { isGrowing, until: hasGrown ? Date.now() + AFTER_MS : 0 };
  }, [isGrowing]);

  useEffect(() => {
    const box = scroller.current;
    if (!box || !content.current) return;
    let lastTop = box.scrollTop;
    const below = () => box.scrollHeight - box.scrollTop - box.clientHeight;
    const settle = () => {
      const canFollow = grows.current.isGrowing || Date.now() < grows.current.until;
      if (isFollowing.current && canFollow) box.scrollTop = box.scrollHeight;
      setAway(!isFollowing.current && below() > AWAY_PX);
    };
    const onScroll = () => {
      if (below() <= NEAR_PX) isFollowing.current = true;
      // What grows moves the end away, not the reader: only a way up ends the following.
      else if (box.scrollTop < lastTop) isFollowing.current = false;
      lastTop = box.scrollTop;
      setAway(!isFollowing.current && below() > AWAY_PX);
    };
    const sizes = new ResizeObserver(settle);
    sizes.observe(content.current);
    sizes.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      sizes.disconnect();
      box.removeEventListener("scroll", onScroll);
    };
  }, []);

  function toEnd() {
    isFollowing.current = true;
    setAway(false);
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
  }
  return { scroller, content, isAway, toEnd };
}
