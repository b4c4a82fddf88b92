// SPDX-License-Identifier: BSD-2-Clause
// What two clients do while something fails: scripts that between them come to every kind of
// command that the library sends, its clients' and its own; see play.h.
// Always holds: without swapping never more than two objects at once stay, so that a command has
// room also where the failure has left something in a slot; with swapping more than fits.
#include "unit/play.h"

namespace spaces::test {
namespace {

using Things = std::vector<Thing*>;

void useAll(Play& play, const Things& things) {
    for (Thing* each : things) play.use(*each);
}

void objects(Play& play) {
    Things things = {&play.object(play.a, "one"), &play.object(play.b, "two")};
    if (play.swaps())
        for (Party* party : {&play.a, &play.b})
            things.push_back(&play.object(*party, "more", TPM2_RH_ENDORSEMENT));
    useAll(play, things);
    play.nameOthers(play.b);
    play.unknownCommand(play.a);
    if (play.swaps()) play.certify(*things[0], *things[2]);
    play.list(play.a);
    play.flush(*things[0]);
    useAll(play, things);
    play.check(play.object(play.a, "three"));
}

void sequences(Play& play) {
    Things things = {&play.sequence(play.a), &play.sequence(play.b)};
    if (play.swaps())
        for (Party* party : {&play.a, &play.b}) things.push_back(&play.sequence(*party));
    for (int i = 0; i < 2; ++i) useAll(play, things);
    play.check(*things[0]);
    play.check(*things[1]);
    useAll(play, things);
}

void sessions(Play& play) {
    Things things = {&play.policy(play.a), &play.hmac(play.b)};
    if (play.swaps())
        for (Party* party : {&play.a, &play.b}) {
            things.push_back(&play.hmac(*party));
            things.push_back(&play.policy(*party));
        }
    useAll(play, things);
    play.nameOthers(play.a);
    play.list(play.b);
    useAll(play, things);
    Thing& ending = play.hmac(play.a);
    play.use(ending);
    play.end(ending);
    play.flush(*things[0]);
    useAll(play, things);
}

void contexts(Play& play) {
    Thing& object = play.object(play.a, "kept");
    Thing& session = play.policy(play.a);
    Thing& left = play.hmac(play.b);
    const Things others = {&play.object(play.b, "other"), &play.policy(play.b)};
    play.use(session);
    play.save(object);
    play.save(session);
    play.save(left);
    if (play.swaps())
        for (Party* party : {&play.a, &play.b})
            for (int i = 0; i < 2; ++i)
                useAll(play, {&play.object(*party, "more"), &play.policy(*party)});
    play.list(play.a);
    play.flush(object);
    Thing& again = play.loadCopy(object);
    useAll(play, others);
    play.load(session);
    useAll(play, {&again, &session});
    play.save(session);
    play.flush(session);
    useAll(play, others);
}

/// The second of them has to wait for the first.
void interleaved(Play& play) {
    Thing& one = play.object(play.a, "one");
    Thing& other = play.sequence(play.b);
    Thing& policy = play.policy(play.a);
    Things more;
    if (play.swaps())
        for (Party* party : {&play.a, &play.b}) {
            more.push_back(&play.object(*party, "more"));
            more.push_back(&play.policy(*party));
        }
    play.setLocality(play.b, 3);
    play.together(play.using_(one), play.using_(other));
    useAll(play, more);
    play.together(play.using_(other), play.using_(policy));
    play.cancelSecond(play.using_(one), play.using_(other));
    play.cancelRunning(play.using_(other));
    useAll(play, more);
    play.together(play.using_(policy), play.using_(other));
    play.abandon(play.using_(one));
}

void hierarchies(Play& play) {
    const Things things = {&play.object(play.a, "owned", TPM2_RH_ENDORSEMENT),
                           &play.object(play.b, "kept")};
    Things more = {&play.policy(play.a)};
    if (play.swaps())
        for (Party* party : {&play.a, &play.b}) {
            more.push_back(&play.object(*party, "more", TPM2_RH_ENDORSEMENT));
            more.push_back(&play.sequence(*party));
        }
    useAll(play, things);
    play.clear(play.a);
    useAll(play, things);
    useAll(play, more);
    Things next;
    for (int i = play.swaps() ? 4 : 1; i > 0; --i)
        next.push_back(&play.object(play.b, "next", TPM2_RH_ENDORSEMENT));
    play.control(play.b, false);
    play.control(play.b, true);
    play.list(play.b);
    useAll(play, next);
    play.use(*things[1]);
}

void power(Play& play) {
    Things things = {&play.object(play.a, "one"), &play.sequence(play.b), &play.policy(play.b)};
    Thing& saved = play.policy(play.a);
    if (play.swaps())
        for (Party* party : {&play.a, &play.b}) {
            things.push_back(&play.object(*party, "more"));
            things.push_back(&play.hmac(*party));
        }
    play.use(saved);
    play.save(saved);
    play.shutDown(play.b);
    play.powerCycle();
    play.expectOff(play.a);
    play.startUp(play.b);
    useAll(play, things);
    play.load(saved);
    play.use(saved);
    play.check(play.object(play.b, "new"));
}

/// What is left is asked for, one probe each.
void losses(Play& play) {
    Thing& lost = play.policy(play.a);
    Thing& other = play.hmac(play.b);
    const Things things = {&play.object(play.a, "one"), &play.sequence(play.b), &other};
    useAll(play, things);
    play.flushBehind(lost);
    play.use(lost);
    useAll(play, things);
    play.list(play.b);
}

}  // namespace

const std::vector<Script>& allScripts() {
    static const std::vector<Script> scripts = {
        {"Objects", objects},   {"Sequences", sequences},     {"Sessions", sessions},
        {"Contexts", contexts}, {"Interleaved", interleaved}, {"Hierarchies", hierarchies},
        {"Power", power},       {"Losses", losses},
    };
    return scripts;
}

}  // namespace spaces::test
