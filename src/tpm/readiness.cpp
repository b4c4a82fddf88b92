// SPDX-License-Identifier: BSD-2-Clause
// Poll handles made of epoll instances, which are themselves descriptors to poll; see readiness.h.
#include "tpm/readiness.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

namespace spaces::tpm {
namespace {

bool add(const Descriptor& to, int descriptor, uint32_t events) {
    epoll_event event{};
    event.events = events;
    return epoll_ctl(to.number(), EPOLL_CTL_ADD, descriptor, &event) == 0;
}

}  // namespace

bool Progress::open() {
    if (isOpen()) return true;
    Descriptor progress(epoll_create1(EPOLL_CLOEXEC));
    Descriptor always(eventfd(1, EFD_CLOEXEC));
    Descriptor alarm(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    if (!progress.isOpen() || !always.isOpen() || !alarm.isOpen() ||
        !add(progress, alarm.number(), EPOLLIN))
        return false;
    progress_ = std::move(progress);
    always_ = std::move(always);
    alarm_ = std::move(alarm);
    return true;
}

bool Progress::watch(std::span<const int> child) {
    if (!isOpen()) return true;
    for (const int descriptor : child)
        if (!add(progress_, descriptor, EPOLLIN)) return false;
    return true;
}

void Progress::unwatch(std::span<const int> child) {
    if (!isOpen()) return;
    for (const int descriptor : child)
        epoll_ctl(progress_.number(), EPOLL_CTL_DEL, descriptor, nullptr);
}

void Progress::setAlarm(std::chrono::steady_clock::time_point at) {
    using std::chrono::nanoseconds;
    using std::chrono::seconds;
    if (!isOpen()) return;
    const auto since = at.time_since_epoch();
    const auto whole = std::chrono::duration_cast<seconds>(since);
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(whole.count());
    when.it_value.tv_nsec = static_cast<long>(nanoseconds(since - whole).count());
    timerfd_settime(alarm_.number(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Progress::clearAlarm() {
    const itimerspec never{};
    if (isOpen()) timerfd_settime(alarm_.number(), 0, &never, nullptr);
}

void Progress::abandon() {
    progress_.abandon();
    always_.abandon();
    alarm_.abandon();
}

bool Readiness::open(const Progress& progress) {
    Descriptor handle(epoll_create1(EPOLL_CLOEXEC));
    if (!handle.isOpen() || !add(handle, progress.descriptor(), 0) ||
        !add(handle, progress.alwaysReadable(), 0))
        return false;
    handle_ = std::move(handle);
    progress_ = &progress;
    return true;
}

void Readiness::become(Of of) {
    if (!isOpen()) return;
    watch(progress_->descriptor(), of == Of::Progress);
    watch(progress_->alwaysReadable(), of == Of::Always);
}

void Readiness::watch(int descriptor, bool on) const {
    epoll_event event{};
    event.events = on ? static_cast<uint32_t>(EPOLLIN) : 0;
    epoll_ctl(handle_.number(), EPOLL_CTL_MOD, descriptor, &event);
}

}  // namespace spaces::tpm
