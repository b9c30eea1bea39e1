import { describe, expect, it } from "vitest";
import { type Usage, curve, held, last, most } from "./usage";

const usage = (over: Partial<Usage>): Usage => ({
  ...{ intervalSeconds: 10, end: "", processors: 2, memoryBytes: 1024, cpu: [], memory: [], resident: [] },
  ...{ networkReceive: [], networkTransmit: [], diskRead: [], diskWrite: [] },
  ...over,
});

describe("curves", () => {
  it("end at the right edge and have gaps where nobody knows", () => {
    expect(curve([0, 1, null, 2], 2, 89, 10)).toBe("M86.0 10.0h0.01L87.0 5.0M89.0 0.0h0.01");
    expect(curve([null], 2, 89, 10)).toBe("");
  });

  it("stay below the upper edge", () => {
    expect(curve([9], 2, 89, 10)).toBe("M89.0 0.0h0.01");
    expect(curve([0], 0, 89, 10)).toBe("M89.0 10.0h0.01");
  });
});

describe("numbers of use", () => {
  it("have a newest and a largest one", () => {
    expect(last([1, 2])).toBe(2);
    expect(last([])).toBeNaN();
    expect(last([1, null])).toBeNaN();
    expect(most([1, null, 3], 2)).toBe(3);
    expect(most([], 2)).toBe(2);
  });

  it("are of the guest where it says what it holds", () => {
    expect(held(usage({ memory: [null, 5], resident: [7, 7] }))).toEqual({ series: [null, 5], guest: true });
    expect(held(usage({ memory: [null, null], resident: [7, 7] }))).toEqual({ series: [7, 7], guest: false });
  });
});
